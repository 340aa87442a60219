"""Read and write files of containers (`cp`, `export`, `diff`), list processes, sample usage."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from netkit.errors import InvalidSpec, NetkitError
from netkit.timestamps import rfc3339
from runtime.apitypes import Upload
from runtime.container.config import HostConfig
from runtime.container.errors import NotRunning
from runtime.container.model import ZERO_TIME, Container, ContainerSizes, ProcessTable
from runtime.container.mount_specs import clean
from runtime.container.mounts import temporary
from runtime.filetree.scoped_root import Root
from runtime.images.store import ImageStore
from runtime.lifecycle.bundle import BundleBuilder
from runtime.lifecycle.volumes import ContainerVolumes
from runtime.oci import stats
from runtime.oci.shim import Shim
from runtime.rootfs import tar_in, tar_out
from runtime.rootfs.diff import FileChange
from runtime.rootfs.mount_refs import MountRefs
from runtime.rootfs.overlay import OverlaySnapshots
from runtime.rootfs.stat import PathStat, stat_path

PS_SECONDS = 10


class Looking:
    def __init__(
        self,
        shim: Shim,
        bundle_builder: BundleBuilder,
        snapshots: OverlaySnapshots,
        mounted: MountRefs,
        images: ImageStore,
        volumes: ContainerVolumes,
    ) -> None:
        self._shim = shim
        self._bundle_builder = bundle_builder
        self._snapshots = snapshots
        self._mounted = mounted
        self._images = images
        self._volumes = volumes

    # files

    @contextmanager
    def _root(self, c: Container) -> Iterator[Root]:
        """Open the root, with its mounts; of a container that does not run without a tmpfs."""
        if c.state.alive:
            try:
                root = Root(f"/proc/{c.state.pid}/root")
            except FileNotFoundError:
                root = None  # it has just exited
            if root is not None:
                # Its mounts go with its process, the files stay until they have been read.
                with root, self._mounted.borrowed(c.id):
                    yield root
                return
        with self._volumes.view(c) as root:
            yield root

    def stat_path(self, c: Container, path: str) -> PathStat:
        with self._root(c) as root:
            return stat_path(root, path)

    def get_archive(self, c: Container, path: str) -> tuple[PathStat, Iterator[bytes]]:
        archive = self._archive(c, path)
        # Suspended inside its `with`: closing or dropping it releases the root file system.
        return next(archive), archive

    def _archive(self, c: Container, path: str) -> Iterator[Any]:
        """Yield the stat of the path, then the bytes of its archive."""
        with self._root(c) as root:
            shown, stream = tar_out.archive(root, path)
            yield shown
            yield from stream

    def put_archive(
        self, c: Container, path: str, tar: Upload, no_overwrite_dir: bool, copy_uid_gid: bool
    ) -> None:
        if c.host_config.readonly_rootfs and not self._on_mount(c, path):
            raise InvalidSpec("container rootfs is marked read-only")
        if not _writable(c, path):
            raise InvalidSpec(f"mounted volume is marked read-only: {path}")
        with self._root(c) as root:
            owner = None
            if copy_uid_gid:
                user = self._bundle_builder.owner(c, root)
                owner = (user.uid, user.gid)
            tar_in.unpack(root, path, tar, no_overwrite_dir=no_overwrite_dir, owner=owner)

    @staticmethod
    def _on_mount(c: Container, path: str) -> bool:
        points = [m.destination for m in c.mounts if m.rw] + list(c.host_config.tmpfs or {})
        return any(path == p or path.startswith(p.rstrip("/") + "/") for p in points)

    def export(self, c: Container) -> Iterator[bytes]:
        with self._mounted.borrowed(c.id) as path, Root(path) as root:
            yield from tar_out.export(root)

    def changes(self, c: Container) -> list[FileChange]:
        return self._snapshots.changes(c.id)

    def sizes(self, c: Container) -> ContainerSizes:
        written = self._snapshots.size(c.id)
        try:
            image = self._images.find(c.image).size
        except NetkitError:
            image = 0  # removed by force
        return ContainerSizes(written, written + image)

    def folders(self, c: Container) -> dict[str, str] | None:
        try:
            return self._snapshots.folders(c.id, self._mounted.place(c.id))
        except (NetkitError, OSError):
            return None  # its image is damaged, or it is being removed

    # processes

    def top(self, c: Container, ps_args: str) -> ProcessTable:
        try:
            args = shlex.split(ps_args or "-ef")
        except ValueError as e:
            raise InvalidSpec(f"ps arguments {ps_args!r}: {e}") from None
        if "\0" in ps_args:
            raise InvalidSpec(f"ps arguments {ps_args[:200]!r}: a NUL character")
        done = subprocess.run(
            ["ps", *args],
            capture_output=True,
            text=True,
            timeout=PS_SECONDS,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        )
        if done.returncode:
            raise InvalidSpec(f"ps {ps_args}: {done.stderr.strip().splitlines()[:1]}")
        return _of(done.stdout, set(self._shim.processes(c.id)))

    def resize(self, c: Container, height: int, width: int) -> None:
        self._shim.resize(c.id, height, width)

    def stats(self, c: Container) -> dict[str, Any]:
        head = {"name": f"/{c.name}", "id": c.id}
        if not c.state.alive:
            return {**head, "read": ZERO_TIME, "preread": ZERO_TIME, "pids_stats": {},
                    "blkio_stats": {}, "num_procs": 0, "storage_stats": {}, "cpu_stats": {},
                    "memory_stats": {}, "networks": {}}  # fmt: skip
        parent = (c.host_config.cgroup_parent or "/netkit").strip("/")
        sample = stats.sample(
            self._bundle_builder.host.cgroups,
            f"/{parent}/{c.id}",
            c.state.pid,
            network=c.host_config.network_mode not in {"host", "none"},
        )
        return {**head, **sample, "read": rfc3339()}

    def apply_resources(self, c: Container, new: HostConfig) -> None:
        if not c.state.alive:
            raise NotRunning(c.id)
        self._shim.update(c.id, self._bundle_builder.resources(new))


def _covers(destination: str, path: str) -> bool:
    whole = clean(path)
    return whole == destination or whole.startswith(destination.rstrip("/") + "/")


def _writable(c: Container, path: str) -> bool:
    """Is the innermost mount that covers the path writable?

    A tmpfs exists only while the container runs.
    """
    access = {m.destination: m.rw for m in c.mounts if m.type != "tmpfs"}
    if c.state.alive:
        access |= dict.fromkeys((clean(target) for target in temporary(c.host_config)), True)
    inside = [destination for destination in access if _covers(destination, path)]
    return not inside or access[max(inside, key=len)]


def _of(output: str, pids: set[int]) -> ProcessTable:
    """Titles and rows of `ps` output, of these processes only."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidSpec("Couldn't find PID field in ps output")
    at = titles.index("PID")
    rows = []
    for line in lines[1:]:
        words = line.split(None, len(titles) - 1)
        if len(words) > at and words[at].isdigit() and int(words[at]) in pids:
            rows.append(words)
    return ProcessTable(titles, rows)
