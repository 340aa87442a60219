"""Remove everything left of a host after any crash: found by where it is, not by records.

What runs in a namespace of the host, has its root below the host's folders, or was started with
one of them as an argument, belongs to it.  Processes go first, for they hold the rest.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netkit.errors import KernelError
from netkit.gone import gone, if_there
from netkit.kernel import netns
from netkit.lab.model import ENGINE_SOCKET, Places

CGROUPS = Path("/sys/fs/cgroup")
GROUP = "netkit"  # the daemon keeps its containers' groups below it
PODMAN_GROUP = "libpod_parent"
# Folders with a folder of each container, named by its id.
CONTAINERS = (
    "containers", "bundles", "runtime", "docker/containers", "podman/storage/vfs-containers",
)  # fmt: skip
ENGINES = ("dockerd", "podman")
SECONDS = 10.0  # after SIGKILL; a process in an uninterruptible wait takes longer
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Remains:
    """Folders with everything below them, and files of namespaces."""

    folders: tuple[str, ...]
    namespaces: tuple[str, ...]

    @classmethod
    def of(cls, places: Places, host: str) -> Remains:
        return cls((places.root(host), places.run(host)), (places.netns(host),))


def sweep(remains: Remains) -> None:
    """Remove all of it.  KernelError if something does not end within 10 s."""
    _end_daemons(remains.folders)  # first, that nothing new is made meanwhile
    inner = [path for f in remains.folders for path in netns.inside_folder(f"{f}/netns")]
    namespaces = (*remains.namespaces, *inner)
    ids = _containers(remains.folders)
    _end(remains.folders, set(_inodes(namespaces)))
    _remove_groups(ids)
    _unmount(remains.folders)
    for path in namespaces:
        netns.remove(path)
    for folder in remains.folders:
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.lexists(folder):
            raise KernelError(f"cannot remove {folder}: is something mounted in it?")


def processes(folders: Sequence[str], inodes: Collection[int] = ()) -> list[int]:
    """Pids that belong to the folders or live in the namespaces; never our own."""
    roots = _Roots(folders)
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and int(entry.name) != os.getpid()
        and _belongs(entry, folders, inodes, roots)
    ]  # fmt: skip


def daemons(argument: str, program: str = "netkitd") -> list[int]:
    """Pids of a program, maybe one that an interpreter runs, with this argument.

    A netkitd is found by its run folder.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with if_there():
            words = _words(entry)
            if argument in words and any(w.endswith(f"/{program}") for w in words[:3]):
                found.append(int(entry.name))
    return found


def _serving(folder: str) -> list[int]:
    """Pids of the netkitd, and of the other engine, of a run folder."""
    url = f"unix://{folder}/{ENGINE_SOCKET}"
    return daemons(folder) + [pid for name in ENGINES for pid in daemons(url, name)]


def reap(pids: Sequence[int]) -> None:
    """Of daemons that have ended, those that this very process started leave no zombie."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


class _Roots:
    """Whether the root of a process is a directory below the folders, or an overlay of such.

    Read once for all processes with the same mounts and root: beside thousands of containers their
    mounts are as many, and each of their monitors sees all of them.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders
        self._known: dict[tuple[int, str], bool] = {}

    def below(self, entry: Path) -> bool:
        key = (os.stat(entry / "ns/mnt").st_ino, os.readlink(entry / "root"))
        if (known := self._known.get(key)) is None:
            mounts = (entry / "mountinfo").read_text(errors="replace").splitlines()
            roots = [line for line in mounts if line.split()[4] == "/"]  # proc_pid_mountinfo(5)
            known = any(f"{folder}/" in line for line in roots for folder in self._folders)
            self._known[key] = known
        return known


def _belongs(entry: Path, folders: Sequence[str], inodes: Collection[int], roots: _Roots) -> bool:
    try:
        if any(_below(word, folders) for word in _words(entry)):
            return True
        if inodes and os.stat(entry / "ns" / "net").st_ino in inodes:
            return True
        return roots.below(entry)
    except OSError as error:
        if gone(error) or error.errno == errno.EINVAL:  # mountinfo of one that has just ended
            return False
        # fs/proc/namespaces.c: of one that ended between the look-up of ns/net and its use; and of
        # one with capabilities that we lack (ptrace(2), access mode checking), such as init where
        # we are in a container: what a lab started has none but ours.
        if error.errno == errno.EACCES:
            return False
        raise


def _words(entry: Path) -> list[str]:
    return (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")


def _below(word: str, folders: Sequence[str]) -> bool:
    """As an argument, alone or as in --root=FOLDER; not in a URL, which is a client's."""
    path = word.rpartition("=")[2]
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _end_daemons(folders: Sequence[str]) -> None:
    deadline = None  # counts from the first kill: with many processes a look takes seconds
    while pids := [pid for folder in folders for pid in _serving(folder)]:
        deadline = deadline or time.monotonic() + SECONDS
        _kill(pids, deadline)
        reap(pids)


def _end(folders: Sequence[str], inodes: Collection[int]) -> None:
    deadline = None  # as in `_end_daemons`
    while pids := processes(folders, inodes):
        deadline = deadline or time.monotonic() + SECONDS
        _kill(pids, deadline)


def _kill(pids: Sequence[int], deadline: float) -> None:
    """Kill them and wait a moment; the caller looks again.  KernelError when it is too late."""
    if time.monotonic() > deadline:
        raise KernelError(f"processes {pids} do not end within {SECONDS:g} s of SIGKILL")
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.01)


def _inodes(paths: Sequence[str]) -> Iterator[int]:
    for path in paths:
        if netns.exists(path):
            yield os.stat(path).st_ino


def _containers(folders: Sequence[str]) -> set[str]:
    """Ids of the containers there are traces of."""
    places = [f"{f}/{sub}" for f in folders for sub in CONTAINERS]
    return {entry.name for place in places if os.path.isdir(place) for entry in os.scandir(place)}


def _remove_groups(ids: Collection[str]) -> None:
    """Remove control groups; a process that has ended may be in one for a moment more (EBUSY)."""
    tops = (CGROUPS, *(p for p in CGROUPS.iterdir() if p.is_dir()))
    deadline = time.monotonic() + SECONDS
    names = [name for id in ids for name in (f"{GROUP}/{id}", f"{PODMAN_GROUP}/libpod-{id}")]
    while left := [g for top in tops for name in names if not _remove_group(g := top / name)]:
        if time.monotonic() > deadline:
            raise KernelError(f"cannot remove control group {left[0]}: are there processes in it?")
        time.sleep(0.01)
    for top in tops:
        for name in (GROUP, f"{PODMAN_GROUP}/conmon", PODMAN_GROUP):
            with suppress(OSError):  # the last one is out; else it is not empty
                os.rmdir(top / name)


def _remove_group(group: Path) -> bool:
    """Whether it is removed.  What runs in it is killed: it may be in no other place of the lab."""
    for below, _, _ in os.walk(group, topdown=False):
        with if_there():
            for pid in (Path(below) / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            os.rmdir(below)
    return not group.exists()


def _unmount(folders: Sequence[str]) -> None:
    for _ in range(3):  # mounts may be stacked
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split()[4] for line in lines]
        for point in reversed([p for p in points if _below(p, folders)]):
            _libc.umount2(os.fsencode(point), netns.MNT_DETACH)
