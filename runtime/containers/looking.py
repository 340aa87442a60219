"""Looking into containers and reaching into their files, running or not."""

from __future__ import annotations

import os
import posixpath
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from netkit.errors import InvalidSpec, NetkitError
from runtime.clock import rfc3339
from runtime.containers.bundle import Bundler
from runtime.containers.config import HostConfig
from runtime.containers.errors import NotRunning
from runtime.containers.model import ZERO_TIME, Container, MountPoint
from runtime.images.store import ImageStore
from runtime.oci import stats
from runtime.oci.mounts import clean
from runtime.oci.shim import Shim
from runtime.ports.containers import PathStat
from runtime.ports.images import Upload
from runtime.rootfs import packing, unpacking
from runtime.rootfs.beneath import Root
from runtime.rootfs.mounted import Mounted
from runtime.rootfs.pathstat import stat_path
from runtime.rootfs.snapshots import Snapshots

PS_SECONDS = 10


class Looking:
    def __init__(
        self,
        shim: Shim,
        bundler: Bundler,
        snapshots: Snapshots,
        mounted: Mounted,
        images: ImageStore,
    ) -> None:
        self._shim = shim
        self._bundler = bundler
        self._snapshots = snapshots
        self._mounted = mounted
        self._images = images

    # files

    @contextmanager
    def _root(self, c: Container) -> Iterator[Root]:
        """Of a running container as it sees it, with its mounts; else its layers."""
        if c.state.alive:
            try:
                root = Root(f"/proc/{c.state.pid}/root")
            except OSError:
                root = None
            if root is not None:
                with root:
                    yield root
                return
        with self._mounted.borrowed(c.id) as path, Root(path) as root:
            yield root

    @contextmanager
    def _place(self, c: Container, path: str) -> Iterator[tuple[Root, str]]:
        """Where a path of the container is: also below a bind mount of one that does not run."""
        point = None if c.state.alive else _bind_of(c, path)
        if point is None:
            with self._root(c) as root:
                yield root, path
            return
        with Root(point.source) as root:
            yield root, _below(point.destination, path)

    def stat_path(self, c: Container, path: str) -> PathStat:
        with self._place(c, path) as (root, inside):
            return stat_path(root, inside)

    def get_archive(self, c: Container, path: str) -> tuple[PathStat, Iterator[bytes]]:
        context = self._place(c, path)
        root, inside = context.__enter__()
        try:
            shown, stream = packing.archive(root, inside)
        except BaseException as error:
            context.__exit__(type(error), error, error.__traceback__)
            raise

        def closing() -> Iterator[bytes]:
            try:
                yield from stream
            finally:
                context.__exit__(None, None, None)

        return shown, closing()

    def put_archive(
        self, c: Container, path: str, tar: Upload, no_overwrite_dir: bool, copy_uid_gid: bool
    ) -> None:
        if c.host_config.readonly_rootfs and not self._on_mount(c, path):
            raise InvalidSpec("container rootfs is marked read-only")
        if any(not m.rw and _covers(m.destination, path) for m in c.mounts if m.type == "bind"):
            raise InvalidSpec(f"mounted volume is marked read-only: {path}")
        owner = None
        if copy_uid_gid:
            with self._root(c) as root:
                user = self._bundler.owner(c, root)
            owner = (user.uid, user.gid)
        # into a mount itself, too: only reading one needs its name in the container
        with self._place(c, path.rstrip("/") + "/.") as (root, inside):
            unpacking.unpack(root, inside, tar, no_overwrite_dir=no_overwrite_dir, owner=owner)

    @staticmethod
    def _on_mount(c: Container, path: str) -> bool:
        points = [m.destination for m in c.mounts if m.rw] + list(c.host_config.tmpfs or {})
        return any(path == p or path.startswith(p.rstrip("/") + "/") for p in points)

    def export(self, c: Container) -> Iterator[bytes]:
        with self._mounted.borrowed(c.id) as path, Root(path) as root:
            yield from packing.export(root)

    def changes(self, c: Container) -> list[tuple[str, int]]:
        return self._snapshots.changes(c.id)

    def sizes(self, c: Container) -> tuple[int, int]:
        written = self._snapshots.size(c.id)
        try:
            image = self._images.find(c.image).size
        except NetkitError:
            image = 0  # removed by force
        return written, written + image

    # processes

    def top(self, c: Container, ps_args: str) -> tuple[list[str], list[list[str]]]:
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
            self._bundler.host.cgroups,
            f"/{parent}/{c.id}",
            c.state.pid,
            network=c.host_config.network_mode not in {"host", "none"},
        )
        return {**head, **sample, "read": rfc3339()}

    def apply_resources(self, c: Container, new: HostConfig) -> None:
        if not c.state.alive:
            raise NotRunning(c.id)
        self._shim.update(c.id, self._bundler.resources(new))


def _covers(destination: str, path: str) -> bool:
    whole = clean(path)
    return whole == destination or whole.startswith(destination.rstrip("/") + "/")


def _bind_of(c: Container, path: str) -> MountPoint | None:
    """The bind mount of a directory that the path is in, the innermost.

    None for a place of a mount itself without a slash behind: it is shown by its name.
    """
    found = [m for m in c.mounts if m.type == "bind" and _covers(m.destination, path)]
    point = max(found, key=lambda m: len(m.destination), default=None)
    if point is None or not os.path.isdir(point.source):
        return None
    itself = clean(path) == point.destination
    return None if itself and not path.endswith(("/", "/.")) else point


def _below(destination: str, path: str) -> str:
    """The path as seen from the mount; what it ends with is kept."""
    rest = posixpath.relpath(clean(path), destination)
    end = "/." if path.endswith("/.") else "/" if path.endswith("/") else ""
    return "/." if rest == "." else f"/{rest}{end}"


def _of(output: str, pids: set[int]) -> tuple[list[str], list[list[str]]]:
    """The lines of `ps` that are about these processes."""
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
    return titles, rows
