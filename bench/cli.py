"""Measure the command line beside docker's:  python -m bench.cli [--quick] [--only EXPRESSION].

Both ask the same netkitd, which has a few containers and an image.  Beside them run an empty
Python, below which no command of netkit can be, and one that imports what it takes to ask a daemon
for JSON.  All of a row's programs are run in turn, many times; figures are medians in ms, of wall
time and of processor time (user and system, of the process alone).  Needs root.
"""

from __future__ import annotations

import argparse
import compileall
import os
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import netkit
from bench.measures import SLEEP, api
from bench.peers import IMAGE, Peer, start

REPEATS, QUICK = 61, 7
CONTAINERS = 3
FLOOR, ASKING = "empty Python", "with json, socket"
PYTHON = {FLOOR: "pass", ASKING: "import json, socket"}
PROGRAMS = ("netkit", "docker", *PYTHON)


@dataclass(frozen=True)
class Line:
    """A command line of both, and the most that netkit may take of docker's wall time."""

    words: str
    most: float | None = None


LINES = (
    Line("ps -a", 2.5),
    Line("version", 2.0),
    Line("--help", 2.5),
    Line("--version"),
    Line("images"),
    Line("inspect bench-0"),
    Line("run --help"),
    Line("run -d --rm busybox true"),
)


@dataclass
class Times:
    """Of one program: what each run took, in ms."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def once(argv: Sequence[str], environment: Mapping[str, str], sink: int, times: Times) -> None:
    """Run a program to its end, with its streams at `sink`.  RuntimeError where it fails."""
    streams = [(os.POSIX_SPAWN_DUP2, sink, fd) for fd in (0, 1, 2)]
    begin = time.perf_counter()
    pid = os.posix_spawnp(argv[0], list(argv), dict(environment), file_actions=streams)
    _, status, usage = os.wait4(pid, 0)
    times.wall.append((time.perf_counter() - begin) * 1000)
    times.processor.append((usage.ru_utime + usage.ru_stime) * 1000)
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(argv)} ended with {code}")


def measured(peer: Peer, line: Line, repeats: int, sink: int) -> dict[str, Times]:
    """Return the times of all programs of a row; a first round, which fills caches, is left out."""
    programs = {
        "netkit": [*peer.own_cli, *line.words.split()],
        "docker": [*peer.cli, *line.words.split()],
        **{name: [sys.executable, "-c", code] for name, code in PYTHON.items()},
    }
    hidden = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
    environment = {k: v for k, v in peer.environment().items() if k not in hidden}
    found = {name: Times() for name in programs}
    for argv in programs.values():
        once(argv, environment, sink, Times())
    for _ in range(repeats):
        for name, argv in programs.items():
            once(argv, environment, sink, found[name])
    return found


def row(line: Line, found: Mapping[str, Times]) -> list[str]:
    wall = {name: statistics.median(times.wall) for name, times in found.items()}
    processor = {name: statistics.median(times.processor) for name, times in found.items()}
    ratio = wall["netkit"] / wall["docker"]
    aim = "" if line.most is None else f"{line.most} {'met' if ratio <= line.most else 'missed'}"
    return [
        line.words,
        *(f"{wall[name]:.1f} ({processor[name]:.1f})" for name in PROGRAMS),
        f"{ratio:.2f} ({processor['netkit'] / processor['docker']:.2f})",
        f"{wall['netkit'] / wall[FLOOR]:.2f} ({processor['netkit'] / processor[FLOOR]:.2f})",
        aim,
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.cli", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs, to try it out")
    parser.add_argument("--only", default="", help="command lines that match this expression")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench.cli: needs root for a daemon (run: sudo make bench-cli)", file=sys.stderr)
        return 1
    compileall.compile_dir(Path(netkit.__file__).parent, quiet=1)
    head = ["ms, wall (processor)", *PROGRAMS, "of docker", f"of {FLOOR}", "aim, of docker"]
    table = [head]
    with start("netkit") as peer, open(os.devnull, "r+b") as sink:
        with api(peer) as client:
            for n in range(CONTAINERS):
                client.create_container(IMAGE, SLEEP, name=f"bench-{n}")
        for line in LINES:
            if re.search(options.only, line.words):
                print(f"bench.cli: {line.words}", flush=True)
                repeats = QUICK if options.quick else REPEATS
                table.append(row(line, measured(peer, line, repeats, sink.fileno())))
    widths = [max(len(cells[n]) for cells in table) for n in range(len(head))]
    for cells in table:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print("  ".join(padded).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
