"""Read the memory of an engine's own processes from /proc: proc(5), smaps_rollup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from bench.peers import Peer

MONITORS = ("conmon", "containerd-shim")  # whose children are containers, not the engine's


def proportional(pid: int) -> float:
    """Proportional set size, MiB: a page that n processes share counts as 1/n; 0 if it exited."""
    return _figure(pid, "Pss:")


def resident(pid: int) -> float:
    """Resident set size, MiB; 0 if the process has exited."""
    return _figure(pid, "Rss:")


def _figure(pid: int, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def engine_processes(peer: Peer) -> dict[int, str]:
    """Return the names of an engine's own processes by pid, containers' processes left out.

    Those that name the engine's folder in their arguments (daemon, monitors, shims, resolver), and
    the children of all of them but of a container's monitor.
    """
    mark = str(peer.folder).encode()
    arguments, parents = _processes()
    own = {pid for pid, text in arguments.items() if mark in text}
    spread = set(own)
    while spread:
        around = {pid for pid in spread if not _name(arguments[pid]).startswith(MONITORS)}
        spread = {pid for pid, parent in parents.items() if parent in around} - own
        own |= spread
    return {pid: _name(arguments[pid]) for pid in own}


def by_name(processes: dict[int, str]) -> dict[str, tuple[int, float]]:
    """Return number and proportional size in MiB of processes of each name, largest first."""
    sizes: defaultdict[str, list[float]] = defaultdict(list)
    for pid, name in processes.items():
        sizes[name].append(proportional(pid))
    found = {name: (len(each), sum(each)) for name, each in sizes.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def total(pids: Iterable[int]) -> float:
    """Proportional set size of several processes, MiB."""
    return sum(map(proportional, pids))


def _processes() -> tuple[dict[int, bytes], dict[int, int]]:
    """Return arguments and parents of all processes, by pid."""
    arguments, parents = {}, {}
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            text = (proc / "cmdline").read_bytes()
            stat = (proc / "stat").read_text()
        except OSError:
            continue
        arguments[int(proc.name)] = text
        parents[int(proc.name)] = int(stat.rpartition(")")[2].split()[1])
    return arguments, parents


def _name(arguments: bytes) -> str:
    """Return the program's name; of an interpreter, the module or script it runs."""
    words = [word for word in arguments.decode(errors="replace").split("\0") if word]
    if not words:
        return ""
    if not Path(words[0]).name.startswith("python"):
        return Path(words[0]).name
    rest = [word for word in words[1:] if word == "-m" or not word.startswith("-")]
    return Path(rest[1] if rest[:1] == ["-m"] else rest[0]).name if rest else "python"
