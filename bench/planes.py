"""Measure bridge and lan networks beside bridges by hand:  python -m bench.planes [--quick].

All paths are there at once and are measured in turn, in short rounds whose order alternates; each
round gives a ratio to the hand-made path just beside it.  Printed are the median of those ratios
and the interval that holds the true median with 95 % confidence (by order statistics), so that a
reader sees what is noise.  For round trips both ends are kept on one processor, for throughput
each has its own: left alone, Linux moves them, and the same path takes 16 or 44 us.  Needs root.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from socket import AF_INET, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket

from bench.drivers import lab
from bench.flows import Flow
from bench.handmade import plain, segment
from bench.shapes import bridged, on_segment
from netkit.kernel import netns
from netkit.lab.running import RunningLab

BARE, RULES = "bridge by hand, bare", "bridge by hand, with rules"
WIRE, GUARDED = "two hosts by hand, bare", "two hosts by hand, with rules"
PIECE = bytes(1 << 18)
WARM = 50  # round trips before those that count, which refill caches


@dataclass(frozen=True, slots=True)
class Scale:
    rounds: int = 60
    trips: int = 400  # of a round
    seconds: float = 0.25  # of a round of throughput


@dataclass(slots=True)
class Path:
    """A path between two namespaces, its samples, and the paths it stands beside."""

    name: str
    bare: str
    protected: str
    flow: Flow
    found: list[float] = field(default_factory=list)


def paths(stack: ExitStack, frames: bool | None) -> list[Path]:
    """Set up everything.  `frames`: whether rules see what any bridge of a host forwards."""
    ways = {
        BARE: stack.enter_context(plain(frames=frames)),
        RULES: stack.enter_context(plain(rules=True, frames=frames)),
        WIRE: stack.enter_context(segment(frames=frames)),
        GUARDED: stack.enter_context(segment(rules=True, frames=frames)),
    }
    host, _ = stack.enter_context(lab("bench-bridge", bridged(frames)))
    lan, _ = stack.enter_context(lab("bench-lan", on_segment(frames)))
    one, two = (BARE, RULES), (WIRE, GUARDED)
    return [
        *(Path(name, *(two if name in two else one), flow) for name, flow in ways.items()),
        Path("bridge, docker0", *one, _between(host, "other1", "other2")),
        Path("bridge, user-defined", *one, _between(host, "c1", "c2")),
        Path("bridge, -b br0", *one, _between(lan, "far", "farther")),
        Path("lan, to another host", *two, _between(lan, "near", "far")),
    ]


def _between(running: RunningLab, client: str, server: str) -> Flow:
    return Flow(running[client].netns, running[server].netns, running[server].ip)


@contextmanager
def connected(flow: Flow, *, echo: bool) -> Iterator[socket]:
    """A connection to a process at the far end, which sends each byte back, or none."""
    with netns.open_socket(flow.server, AF_INET, SOCK_STREAM) as listener:
        listener.bind((flow.address, 0))
        listener.listen(1)
        near = netns.open_socket(flow.client, AF_INET, SOCK_STREAM)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    for end in (near, far):
        end.setblocking(True)
        end.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    child = os.fork()
    if not child:
        near.close()
        try:
            _answer(far, echo=echo)
        finally:
            os._exit(0)
    far.close()
    try:
        yield near
    finally:
        near.close()
        os.waitpid(child, 0)


def _answer(far: socket, *, echo: bool) -> None:
    os.sched_setaffinity(0, {_processors()[-1]})
    if echo:
        while data := far.recv(1):
            far.send(data)
    else:
        piece = bytearray(1 << 20)
        while far.recv_into(piece):
            pass


def _processors() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def trip(near: socket, count: int) -> float:
    """us for one byte there and back, the median of `count`."""
    took = []
    for _ in range(WARM + count):
        begin = time.perf_counter()
        near.send(b"x")
        near.recv(1)
        took.append(time.perf_counter() - begin)
    return statistics.median(took[WARM:]) * 1e6


def rate(near: socket, seconds: float) -> float:
    """Mbit/s taken by the connection."""
    sent, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        sent += near.send(PIECE)
    return sent * 8 / 1e6 / (now - begin)


def sample(found: Sequence[Path], scale: Scale, *, echo: bool) -> None:
    """Measure all paths in turn, round by round, there and back."""
    everywhere = set(_processors())
    with ExitStack() as stack:
        ends = [stack.enter_context(connected(path.flow, echo=echo)) for path in found]
        os.sched_setaffinity(0, {_processors()[-1 if echo else 0]})
        try:
            for number in range(scale.rounds):
                pairs = list(zip(found, ends, strict=True))
                for path, near in pairs if number % 2 else reversed(pairs):
                    one = trip(near, scale.trips) if echo else rate(near, scale.seconds)
                    path.found.append(one)
        finally:
            os.sched_setaffinity(0, everywhere)


def ratio(path: Path, base: Path) -> tuple[float, float, float]:
    """The median ratio of rounds, and the interval of the true one with 95 % confidence."""
    each = sorted(a / b for a, b in zip(path.found, base.found, strict=True))
    middle, width = len(each) / 2, 0.98 * len(each) ** 0.5  # the binomial's normal approximation
    low, high = max(0, int(middle - width)), min(len(each) - 1, int(middle + width))
    return statistics.median(each), each[low], each[high]


def report(found: Sequence[Path], unit: str) -> None:
    names = {path.name: path for path in found}
    print(f"\n{'':30}  {unit:>8}  {'of bare':>20}  {'of that with rules':>20}")
    for path in found:
        cells = []
        for name in (path.bare, path.protected):
            middle, low, high = ratio(path, names[name])
            cells.append(f"{middle:.3f} ({low:.3f}-{high:.3f})" if name != path.name else "1")
        figure = statistics.median(path.found)
        print(f"{path.name:30}  {figure:8,.1f}  {cells[0]:>20}  {cells[1]:>20}", flush=True)
    for path in found:
        path.found.clear()


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.planes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, to try it out")
    parser.add_argument(
        "--frames", choices=("all", "asked"),
        help="rules see the frames of all bridges, or of those that ask (br_netfilter; default: "
             "as this kernel has it in a new namespace)",
    )  # fmt: skip
    parser.add_argument("--only", choices=("trips", "throughput"))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root for namespaces and containers", file=sys.stderr)
        return 1
    scale = Scale(rounds=10) if options.quick else Scale()
    frames = None if options.frames is None else options.frames == "all"
    with ExitStack() as stack:
        found = paths(stack, frames)
        if options.only != "throughput":
            sample(found, scale, echo=True)
            report(found, "trip, us")
        if options.only != "trips":
            sample(found, scale, echo=False)
            report(found, "Mbit/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
