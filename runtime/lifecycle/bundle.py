"""Build the OCI bundle of a container: user, mounts, namespaces and limits."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from netkit.errors import Conflict, InvalidSpec, NotFound
from runtime.container.config import HostConfig
from runtime.container.log_options import check_log
from runtime.container.model import Container, MountPoint
from runtime.container.mount_specs import clean
from runtime.container.mounts import temporary
from runtime.container.store import ContainerStore
from runtime.filetree.scoped_root import Root
from runtime.lifecycle import rootfs_mounts
from runtime.oci import abi, capabilities, devices, resources, spec, users
from runtime.oci.binaries import SEARCH
from runtime.oci.cgroups import Cgroups
from runtime.oci.inputs import BundleMount, ContainerPaths, HostInfo
from runtime.oci.shim import Shim
from runtime.oci.users import User
from runtime.paths import Paths

INITS = ("tini-static", "tini", "catatonit", "docker-init")


def probe_host(cgroups: Cgroups) -> HostInfo:
    """Read the properties of this host that bundles depend on."""
    bounding, effective = 0, 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            bounding = int(line.split()[1], 16)
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    have = capabilities.available(bounding & effective)
    limits = {
        name.removeprefix("RLIMIT_").lower(): resource.getrlimit(getattr(resource, name))[1]
        for name in dir(resource)
        if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
    }
    search = f"{SEARCH}:/usr/libexec/podman:/usr/libexec/docker"
    found = (shutil.which(name, path=search) for name in INITS)
    return HostInfo(
        machine=platform.machine(),
        cgroups=cgroups,
        bounding=have,
        hard_limits=limits,
        raise_limits="CAP_SYS_RESOURCE" in have,
        cpus=os.cpu_count() or 1,
        init=next((path for path in found if path), ""),
        shared_memory=tuple(p for p in ("/dev/shm", "/dev/mqueue") if os.path.ismount(p)),
        absent_abis=abi.absent(platform.machine()),
        recursive_read_only=_kernel() >= (5, 12),
    )


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


class BundleBuilder:
    def __init__(
        self,
        paths: Paths,
        store: ContainerStore,
        shim: Shim,
        host: HostInfo,
        group: str,
        link_environment: Callable[[Container], list[str]] = lambda c: [],
        source: Callable[[Container, MountPoint], str] = lambda c, point: point.source,
    ) -> None:
        self._paths = paths
        self._store = store
        self._shim = shim
        self.host = host
        self._group = group  # cgroup of all our containers, "/netkit"
        self._link_environment = link_environment
        self._source = source

    def check(self, c: Container) -> list[str]:
        check_log(c.host_config)
        for kind, mode in (("pid", c.host_config.pid_mode), ("ipc", c.host_config.ipc_mode)):
            self._mode(kind, mode, running=False)
        if c.host_config.uts_mode not in {"", "private", "host"}:
            raise InvalidSpec(f"invalid UTS mode: {c.host_config.uts_mode}")
        if c.host_config.cgroupns_mode not in {"", "private", "host"}:
            raise InvalidSpec(f"invalid cgroup namespace mode: {c.host_config.cgroupns_mode}")
        own = Path(self._shim.runtime).name
        if c.host_config.runtime not in {"", own}:
            raise InvalidSpec(
                f"unknown or invalid runtime name: {c.host_config.runtime}: this daemon runs {own}"
            )
        return spec.check(c.config, c.host_config, self.host)

    def complete(self, c: Container) -> None:
        """Write defaults that depend on this host into the document, as dockerd does."""
        host = c.host_config
        host.runtime = host.runtime or Path(self._shim.runtime).name
        v2 = self.host.cgroups.version == 2
        host.cgroupns_mode = host.cgroupns_mode or ("private" if v2 else "host")
        if host.oom_kill_disable is None and not v2:
            host.oom_kill_disable = False
        resources.complete(host, self.host.cgroups)

    def check_resources(self, host_config: HostConfig) -> list[str]:
        """Validate resource limits; warnings.  Drops from `host_config` what cannot apply here."""
        warnings = resources.check(host_config, self.host.cpus, self.host.cgroups)
        resources.complete(host_config, self.host.cgroups)
        return warnings

    def _mode(self, kind: str, mode: str, *, running: bool) -> str:
        """private, host, or the path of another container's namespace."""
        if mode in {"", "private"} or (kind == "ipc" and mode in {"shareable", "none"}):
            return "private"
        if mode == "host":
            return "host"
        word, _, ref = mode.partition(":")
        if word != "container" or not ref:
            raise InvalidSpec(f"invalid {kind.upper()} mode: {mode}")
        if not running:
            return "private"  # at `create` the other container need not exist yet
        where = f"failed to join {kind.upper()} namespace"
        try:
            other = self._store.find(ref)
        except NotFound as e:
            raise InvalidSpec(f"{where}: {e}") from e
        if not other.state.alive:
            raise Conflict(f"{where}: container {other.name} is not running")
        if kind == "ipc" and other.host_config.ipc_mode != "shareable":
            raise Conflict(
                f"{where}: non-shareable IPC of container {other.name}: run it with --ipc shareable"
            )
        return f"/proc/{other.state.pid}/ns/{kind}"

    def begin(self, c: Container) -> None:
        """Begin a start; `create` is due, or the shim's `withdraw`."""
        self._shim.begin(
            c.id,
            log=None if c.host_config.log_config.type == "none" else self._paths.log(c.id),
            terminal=c.config.tty,
            stdin=c.config.open_stdin,
            # a terminal's input stays open when its client detaches
            leave_stdin_open=c.config.open_stdin and (c.config.tty or not c.config.stdin_once),
        )

    def create(
        self, c: Container, root: Path, netns: str, meanwhile: Callable[[], object] = lambda: None
    ) -> int:
        """Create the container up to, not including, its command; the pid of its first process.

        `meanwhile` is called while the OCI runtime works, which needs `netns` but no links in it.
        """
        config = msgspec.structs.replace(
            c.config,
            hostname=self._hostname(c),
            # the container's own variables override those of links
            env=[*self._link_environment(c), *(c.config.env or ())],
        )
        with Root(root) as inside:
            user = self._user(c.config.user, c.host_config, inside)
            rootfs_mounts.furnish(c, inside)
            mounts = list(self._mounts(c, inside))
            document = spec.build(
                config, c.host_config, self._places(c, root, netns), user, mounts, self.host
            )
            with ExitStack() as after:
                for target, words in temporary(c.host_config).items():
                    before = rootfs_mounts.place_tmpfs(c, inside, target, words)
                    if before is not None:
                        after.callback(inside.chmod, target, before)
                return self._shim.create(c.id, document, meanwhile).pid

    def _hostname(self, c: Container) -> str:
        """Its own hostname, that of the container whose network it shares, or the host's."""
        if c.config.hostname or c.host_config.uts_mode == "host":
            return c.config.hostname
        if (other := c.host_config.network_of) is not None:
            return self._hostname(self._store.find(other))
        return Path("/proc/sys/kernel/hostname").read_text().strip()

    def _places(self, c: Container, root: Path, netns: str) -> ContainerPaths:
        parent = c.host_config.cgroup_parent or self._group
        return ContainerPaths(
            id=c.id,
            rootfs=str(root),
            netns=netns,
            pid=self._mode("pid", c.host_config.pid_mode, running=True),
            ipc=self._mode("ipc", c.host_config.ipc_mode, running=True),
            shm=self._shared_memory(c),
            uts="host" if c.host_config.uts_mode == "host" else "private",
            cgroup=f"/{parent.strip('/')}/{c.id}",
        )

    def _shared_memory(self, c: Container) -> str:
        """What to mount at /dev/shm: "own", "none", or the path of a shared tmpfs."""
        mode = c.host_config.ipc_mode
        if mode == "shareable":
            return str(self._paths.shared_memory(c.id))
        if mode.startswith("container:"):
            other = self._store.find(mode.partition(":")[2])
            return str(self._paths.shared_memory(other.id))
        return "none" if mode == "none" else "own"

    def owner(self, c: Container, root: Root) -> User:
        """The user the container's first process runs as."""
        return self._user(c.config.user, c.host_config, root)

    @staticmethod
    def _user(text: str, host_config: HostConfig, inside: Root) -> User:
        passwd, group = inside.read_file("/etc/passwd"), inside.read_file("/etc/group")
        return users.resolve(text, passwd, group, host_config.group_add or ())

    def exec_process(
        self,
        c: Container,
        root: Path,
        *,
        args: list[str],
        tty: bool,
        user: str,
        env: list[str],
        cwd: str,
        privileged: bool,
    ) -> dict[str, Any]:
        """The `process` section of the OCI configuration for an exec."""
        with Root(root) as inside:
            who = self._user(user or c.config.user, c.host_config, inside)
        host_config = c.host_config
        if privileged:
            host_config = msgspec.structs.replace(host_config, privileged=True)
        config = msgspec.structs.replace(
            c.config,
            tty=tty,
            entrypoint=None,
            cmd=args,
            working_dir=cwd or c.config.working_dir,
            env=[*self._link_environment(c), *(c.config.env or ()), *env],
        )
        # Only `process` of the document is used, so paths and mounts do not matter.  --init and the
        # size of the container's terminal are not for execs.
        places = ContainerPaths(id=c.id, rootfs="/", netns="/")
        plain = msgspec.structs.replace(host_config, init=False, console_size=None)
        document = spec.build(config, plain, places, who, (), self.host)
        process: dict[str, Any] = document["process"]
        return process

    def resources(self, host_config: HostConfig) -> Mapping[str, Any]:
        limits = resources.render(host_config, self.host.cgroups)
        _, rules = devices.render(host_config)
        return {**limits, "devices": rules}

    # mounts

    def _mounts(self, c: Container, inside: Root) -> Iterator[BundleMount]:
        owner = self._files_of(c)
        files = {
            "/etc/resolv.conf": self._paths.resolv(owner),
            "/etc/hostname": self._paths.hostname(owner),
            "/etc/hosts": self._paths.hosts(owner),
        }
        c.extra |= {  # shown by `inspect`
            "ResolvConfPath": str(self._paths.resolv(owner)),
            "HostnamePath": str(self._paths.hostname(owner)),
            "HostsPath": str(self._paths.hosts(owner)),
        }
        yield from rootfs_mounts.network_files(c, files, inside)
        hidden = {clean(target) for target in temporary(c.host_config)}
        for point in c.mounts:
            if point.type != "tmpfs" and point.destination not in hidden:
                yield rootfs_mounts.bind(
                    point,
                    inside,
                    source=self._source(c, point),
                    recursive_read_only=self.host.recursive_read_only,
                )

    def _files_of(self, c: Container) -> str:
        """Id of the container whose hosts and resolv.conf are mounted: the namespace's owner."""
        if (other := c.host_config.network_of) is not None:
            return self._files_of(self._store.find(other))
        return c.id
