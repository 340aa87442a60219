"""Measure weave's data planes beside others:  python -m bench.weave [--quick].

Between two namespaces of one machine: a plain veth, VXLAN devices made by hand, containers of two
hosts with weave (fastdp, the sleeve in clear and sealed, by their real processes), the sleeve alone
without bridges, and overlays in user space that Debian has, if NETKIT_BENCH_OVERLAYS names a folder
of their unpacked packages.  Both ends, their overlay processes and both ends of iperf3 share all
processors.  Paths take turns, in reversed order every other round; figures are medians.  A veth
passes 64 KB frames whole, which flatters whoever has them: the underlay that has to cut packets is
the one to compare by.  At the end what a stranger's flood costs.  Needs root, iperf3 and ethtool.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench import weave_flood
from bench.flows import Flow
from bench.overlays import (
    BY_HAND,
    OTHERS,
    SLEEVE,
    THERE,
    UP,
    Kind,
    Underlay,
    environment,
    found,
    underlay,
)
from bench.weave_hosts import BRIDGED, WEAVE

UNDERLAYS = {
    "MTU 1500": {"mtu": 1500},
    "MTU 9000": {"mtu": 9000},
    "MTU 1500, packets cut": {"mtu": 1500, "cut": True},
    "MTU 1500, 1 % lost": {"mtu": 1500, "loss": True},
}
BASE = "VXLAN by hand"
KINDS = (*BY_HAND, *BRIDGED, *WEAVE, *SLEEVE, *OTHERS)


@dataclass(frozen=True)
class Scale:
    rounds: int = 3
    seconds: float = 4.0  # of one flow; others half of it
    trips: int = 2000


@dataclass
class Samples:
    """Of one path on one underlay; Gbit/s, packets in thousands a second, µs, s, MiB."""

    tcp: list[float] = field(default_factory=list)
    tcp8: list[float] = field(default_factory=list)
    udp: list[float] = field(default_factory=list)
    udp8: list[float] = field(default_factory=list)
    small: list[float] = field(default_factory=list)
    trip: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of its processes, for each GB
    machine: list[float] = field(default_factory=list)  # of all processors, likewise
    memory: list[float] = field(default_factory=list)
    failed: str = ""


def cpu(pids: list[int]) -> float:
    """Seconds of all threads."""
    total = 0
    for pid in pids:
        for each in Path(f"/proc/{pid}/task").iterdir():
            total += int((each / "schedstat").read_text().split()[0])
    return total / 1e9


def machine() -> float:
    """Seconds that all processors were busy."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    user, nice, system, _, _, irq, softirq = map(int, words)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def memory(pids: list[int]) -> float:
    """PSS, MiB."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def iperf(at: Underlay, seconds: float, *argv: str) -> dict[str, float]:
    return _flow(at).iperf(seconds, *argv, env=environment())


def _flow(at: Underlay) -> Flow:
    return Flow(client=at.end(0), server=at.end(1), address=THERE)


def measure(kind: Kind, at: Underlay, scale: Scale, into: Samples) -> None:
    with kind.way(at):
        _answers(at)
        half = scale.seconds / 2
        if not at.whole:
            iperf(at, half)  # who adapts to the loss has to notice it first
        before, busy = cpu(at.pids), machine()
        one = iperf(at, scale.seconds)
        into.cpu.append((cpu(at.pids) - before) / (one["bytes"] / 1e9))
        into.machine.append((machine() - busy) / (one["bytes"] / 1e9))
        into.tcp.append(one["bits_per_second"] / 1e9)
        into.tcp8.append(iperf(at, half, "-P", "8")["bits_per_second"] / 1e9)
        into.trip.append(_flow(at).round_trip(scale.trips, pause=0.0005))
        into.memory.append(memory(at.pids))
        if not at.whole:
            return
        long = str(at.mtu - 200)
        into.udp.append(_delivered(at, half, "-l", long)[0])
        into.udp8.append(_delivered(at, half, "-l", long, "-P", "8")[0])
        into.small.append(_delivered(at, half, "-l", "64")[1])


def _delivered(at: Underlay, seconds: float, *argv: str) -> tuple[float, float]:
    """(Gbit/s, thousands of packets a second) that come out of as many as can be sent.

    Counted where they leave the path: an end's own socket, which is flooded, loses as many again.
    """
    before = at.arrived()
    report = iperf(at, seconds, "-u", "-b", "0", *argv)
    packets, size = (after - was for after, was in zip(at.arrived(), before, strict=True))
    return size * 8 / report["seconds"] / 1e9, packets / report["seconds"] / 1e3


def _answers(at: Underlay) -> None:
    end = time.monotonic() + UP
    while True:
        try:
            at.run(0, "busybox", "ping", "-c", "1", "-W", "2", THERE, inside=True)
            return
        except RuntimeError:
            if time.monotonic() > end:
                raise


def render(name: str, samples: dict[str, Samples]) -> str:
    head = ["", "TCP 1", "of VXLAN", "TCP 8", "UDP 1", "UDP 8", "64 B", "trip", "CPU", "all", "PSS"]
    units = ["", "Gbit/s", "", "Gbit/s", "Gbit/s", "Gbit/s", "kpps", "µs", "s/GB", "s/GB", "MiB"]
    table = [head, units]
    base = statistics.median(samples[BASE].tcp) if samples.get(BASE, Samples()).tcp else 0
    for kind, got in samples.items():
        if got.failed:
            table.append([kind, got.failed])
            continue
        share = f"{statistics.median(got.tcp) / base:.2f}" if base and got.tcp else "-"
        table.append([
            kind, _figure(got.tcp), share, _figure(got.tcp8), _figure(got.udp), _figure(got.udp8),
            _figure(got.small, 0), _figure(got.trip, 0), _figure(got.cpu), _figure(got.machine),
            _figure(got.memory, 0),
        ])  # fmt: skip
    widths = [max(len(line[n]) for line in table if n < len(line)) for n in range(len(head))]
    lines = [
        "  ".join(c.ljust(w) if not n else c.rjust(w)
                  for n, (c, w) in enumerate(zip(line, widths, strict=False))).rstrip()
        for line in table
    ]  # fmt: skip
    return "\n".join([f"-- {name}", *lines, ""])


def _figure(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f}" if values else "-"


def run(name: str, kinds: list[Kind], scale: Scale) -> dict[str, Samples]:
    samples = {kind.name: Samples() for kind in kinds}
    for turn in range(scale.rounds):
        for kind in kinds if turn % 2 == 0 else reversed(kinds):
            with underlay(**UNDERLAYS[name]) as at:  # type: ignore[arg-type]
                try:
                    measure(kind, at, scale, samples[kind.name])
                except (RuntimeError, OSError, subprocess.SubprocessError, KeyError) as e:
                    samples[kind.name].failed = f"failed: {e}"[:100]
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.weave", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of short samples")
    parser.add_argument("--underlays", default=";".join(UNDERLAYS), help="separated by ;")
    parser.add_argument("--paths", default="", help="separated by ;  default: all that are there")
    parser.add_argument("--no-flood", action="store_true", help="leave out the flood")
    options = parser.parse_args()
    scale = Scale(rounds=1, seconds=2, trips=300) if options.quick else Scale()
    wanted = [each for each in options.paths.split(";") if each]
    kinds = [k for k in KINDS if (not wanted or k.name in wanted)]
    missing = [k.name for k in kinds if k.program and not found(k.program)]
    print(f"{os.cpu_count()} processors; {scale.rounds} rounds, medians")
    if missing:
        print(f"not there: {', '.join(missing)} (NETKIT_BENCH_OVERLAYS)")
    kinds = [k for k in kinds if k.name not in missing]
    for name in options.underlays.split(";"):
        print(render(name, run(name, kinds, scale)), flush=True)
    if not options.no_flood:
        rounds = 2 if options.quick else 8
        print(weave_flood.table(WEAVE[1:], rounds, scale.seconds), flush=True)


if __name__ == "__main__":
    main()
