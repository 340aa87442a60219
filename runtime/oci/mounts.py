"""Render a container's mounts: the standard ones, tmpfs, and those of the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig
from runtime.container.mount_specs import clean
from runtime.container.mounts import temporary
from runtime.oci.inputs import BundleMount, ContainerPaths, HostInfo

SHM_SIZE = 64 << 20  # bytes
INIT = "/sbin/docker-init"  # where the init binary is bind-mounted, as in Docker
_WRITABLE = frozenset({"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"})
_TMPFS_WORDS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev sync async dirsync atime noatime relatime norelatime "
    "strictatime diratime nodiratime private rprivate shared rshared slave rslave".split()
)
_TMPFS_KEYS = frozenset("size mode uid gid nr_inodes nr_blocks mpol huge".split())


def render(
    host_config: HostConfig, places: ContainerPaths, extra: Iterable[BundleMount], host: HostInfo
) -> list[dict[str, Any]]:
    standard = _shared(_standard(host_config, places), places, host)
    if host_config.readonly_rootfs:
        standard = [_read_only(m) for m in standard]
    init = [
        BundleMount(source=host.init, destination=INIT, options=("bind", "ro"))
    ] if host_config.init else []  # fmt: skip
    memory = [_tmpfs(path, words) for path, words in temporary(host_config).items()]
    everything = [*extra, *memory, *init]
    # The user's mount at a standard destination replaces the standard one.
    covered = {clean(m.destination) for m in everything}
    kept = [m for m in standard if m.destination not in covered]
    # Parents before children: a mount hides whatever was mounted below it before.
    everything.sort(key=lambda m: clean(m.destination).count("/"))
    return [
        {
            "destination": m.destination,
            "type": m.type,
            "source": m.source,
            "options": list(m.options),
        }
        for m in (*kept, *everything)
    ]


def _standard(host_config: HostConfig, places: ContainerPaths) -> list[BundleMount]:
    """Docker's mounts of every container."""
    shm = host_config.shm_size or SHM_SIZE
    mode = "rw" if host_config.privileged else "ro"
    inert = ("nosuid", "noexec", "nodev")
    if places.netns:
        sys = BundleMount(source="sysfs", destination="/sys", type="sysfs", options=(*inert, mode))
    else:  # a new sysfs shows only the network namespace it is mounted in
        sys = BundleMount(source="/sys", destination="/sys", options=("rbind", *inert, mode))
    return [
        BundleMount(source="proc", destination="/proc", type="proc", options=inert),
        BundleMount(source="tmpfs", destination="/dev", type="tmpfs",
                    options=("nosuid", "strictatime", "mode=755", "size=65536k")),
        BundleMount(source="devpts", destination="/dev/pts", type="devpts",
                    options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
                             "gid=5")),
        sys,
        BundleMount(source="cgroup", destination="/sys/fs/cgroup", type="cgroup",
                    options=(*inert, mode)),
        BundleMount(source="mqueue", destination="/dev/mqueue", type="mqueue", options=inert),
        BundleMount(source="shm", destination="/dev/shm", type="tmpfs",
                    options=(*inert, "mode=1777", f"size={shm}")),
    ]  # fmt: skip


def _shared(
    standard: list[BundleMount], places: ContainerPaths, host: HostInfo
) -> list[BundleMount]:
    """`standard` with the shared memory and message queues of the host or another container."""
    if places.ipc == "host":
        shared = [BundleMount(source=path, destination=path) for path in host.shared_memory]
        hidden = {"/dev/shm", "/dev/mqueue"}
        return [m for m in standard if m.destination not in hidden] + shared
    if places.shm == "own":
        return standard
    standard = [m for m in standard if m.destination != "/dev/shm"]
    if places.shm != "none":
        standard.append(BundleMount(source=places.shm, destination="/dev/shm",
                                    options=("rbind", "rprivate")))  # fmt: skip
    return standard


def check_tmpfs(path: str, options: str) -> None:
    if not path.startswith("/"):
        raise InvalidSpec(f"invalid mount path: '{path}' mount path must be absolute")
    if clean(path) == "/":
        raise InvalidSpec("invalid specification: destination can't be '/'")
    for word in options.split(",") if options else ():
        key = word.partition("=")[0]
        if word not in _TMPFS_WORDS and key not in _TMPFS_KEYS:
            raise InvalidSpec(f"invalid tmpfs option {word!r} for {path}")


def _read_only(mount: BundleMount) -> BundleMount:
    """Make a standard mount read-only, unless its file system is private to the container."""
    if mount.destination in _WRITABLE or "ro" in mount.options:
        return mount
    return replace(mount, options=(*(o for o in mount.options if o != "rw"), "ro"))


def _tmpfs(path: str, words: Sequence[str]) -> BundleMount:
    return BundleMount(
        source="tmpfs",
        destination=path,
        type="tmpfs",
        options=("noexec", "nosuid", "nodev", *words) if "exec" not in words
        else ("nosuid", "nodev", *words),
    )  # fmt: skip
