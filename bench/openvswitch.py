"""Measure the ovs driver on the userspace datapath:  python -m bench.openvswitch [--quick].

For each Open vSwitch there is (the installed one, and those of `script/openvswitch`): TCP between
two containers of a host, to the outside through NAT, and from outside to a published port, with TCP
segmentation by ovs-vswitchd and without; beside them the same over bridges of the kernel's.
Tunnels between two hosts: of each kind, beside the same made by hand, without protection, and with
netkit's way to the host and the least rules and flows that protect as netkit's; and by the kernel's
VXLAN device.  All are there at once and are measured in turn.  Needs root, iperf3, ethtool and
openvswitch-switch.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench import handmade, shapes
from bench.drivers import lab
from bench.flows import ROUND_TRIP, Flow
from netkit.lab.running import RunningLab
from tests.places import ROOT

IPERF = 5201
TUNNELS = ("gre", "vxlan", "geneve", "routed")


@dataclass
class Row:
    """A path, with the samples taken on it."""

    name: str
    beside: str  # the name of what it is compared with
    find: Callable[[], Flow]
    also: str = ""  # and of one more
    mbits: list[float] = field(default_factory=list)
    trips: list[float] = field(default_factory=list)  # us


def switches() -> dict[str, str]:
    """Folders of programs by what they are; "" is the installed one."""
    found = {"installed": ""}
    for folder in sorted(ROOT.glob(".openvswitch-*/bin")):
        found[folder.parent.name.removeprefix(".openvswitch-")] = str(folder)
    return found


@contextmanager
def programs(folder: str) -> Iterator[None]:
    """Labs that come up meanwhile have this Open vSwitch."""
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{path}" if folder else path
    try:
        yield
    finally:
        os.environ["PATH"] = path


def up(stack: ExitStack, folder: str, name: str, document: dict[str, object]) -> RunningLab:
    with programs(folder):
        return stack.enter_context(lab(name, document))[0]


def local(label: str, running: RunningLab, beside: str) -> Iterator[Row]:
    """The three paths of a host with containers c1 and c2, and of the host outside."""
    ways: dict[str, Callable[[], Flow]] = {
        "to a neighbour": lambda: Flow(
            running["c1"].netns, running["c2"].netns, running["c2"].address("net")
        ),
        "to the outside": lambda: Flow(running["c1"].netns, running["h2"].netns, "10.0.0.2"),
        "from the outside": lambda: Flow(
            running["h2"].netns, running["c2"].netns, "10.0.0.1", running["c2"].address("net")
        ),
    }
    for way, find in ways.items():
        yield Row(f"{label}, {way}", f"{beside}, {way}", find)


def local_rows(stack: ExitStack) -> Iterator[Row]:
    ports = [f"{port}:{port}/tcp" for port in (IPERF, ROUND_TRIP)]
    bridge = stack.enter_context(lab("bo-bridge", shapes.beside_outside("bridge", ports)))[0]
    yield from local("bridge", bridge, "bridge")
    for label, folder in switches().items():
        today = up(stack, folder, f"bo-{label}-off", shapes.beside_outside("ovs", ports, tso=False))
        yield from local(f"{label}, not segmenting", today, f"{label}, not segmenting")
        if not folder:
            continue
        now = up(stack, folder, f"bo-{label}", shapes.beside_outside("ovs", ports))
        yield from local(label, now, f"{label}, not segmenting")


def tunnel_rows(stack: ExitStack, kinds: Sequence[str]) -> Iterator[Row]:
    def between(running: RunningLab) -> Callable[[], Flow]:
        return lambda: Flow(running["c1"].netns, running["c2"].netns, running["c2"].ip)

    for kind in kinds:
        bare, guarded = f"{kind}, by hand", f"{kind}, by hand, protected"
        for name, as_driver in ((bare, False), (guarded, True)):
            made = stack.enter_context(
                handmade.routed(as_driver=as_driver) if kind == "routed"
                else handmade.apart(kind, as_driver=as_driver)
            )  # fmt: skip
            yield Row(name, bare, lambda made=made: made)  # type: ignore[misc]
        running = up(stack, "", f"bo-{kind}", shapes.switched(kind))
        yield Row(kind, bare, between(running), guarded)
    for label, folder in switches().items():
        if not folder:
            continue
        today = up(stack, folder, f"bo-{label}-gre", shapes.switched("gre", tso=False))
        yield Row(f"{label}, gre, not segmenting", "gre, by hand", between(today))
        for kind in ("gre", "vxlan-device"):
            running = up(stack, folder, f"bo-{label}-{kind}"[:20], shapes.switched(kind))
            yield Row(f"{label}, {kind}", f"{label}, gre, not segmenting", between(running))


def report(found: list[Row]) -> None:
    by_name = {r.name: r for r in found}
    print(f"\n{'':32}  Mbit/s, of beside, of protected     trip, us, of beside, of protected")
    for r in found:
        bases = [by_name.get(name) for name in (r.beside, r.also)]
        rates = _cells(r.mbits, [base.mbits if base else None for base in bases])
        trips = _cells(r.trips, [base.trips if base else None for base in bases])
        print(f"{r.name:32}{rates}{trips}")


def _cells(samples: Sequence[float], bases: Sequence[Sequence[float] | None]) -> str:
    shares = (f"  {_share(samples, base):6.2f}" if base else " " * 8 for base in bases)
    return f"  {statistics.median(samples):8,.0f}{''.join(shares)}"


def _share(samples: Sequence[float], beside: Sequence[float]) -> float:
    """The median of the ratios of rounds, as both are measured in each."""
    return statistics.median(a / b for a, b in zip(samples, beside, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.openvswitch", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to try it out")
    parser.add_argument("--only", default="", help="rows whose names match this expression")
    parser.add_argument("--part", choices=("local", "tunnels"), help="that alone")
    parser.add_argument("--tunnels", default=",".join(TUNNELS), help="kinds (default %(default)s)")
    parser.add_argument("--rounds", type=int, help="samples of each row (default 5, quick 1)")
    asked = parser.parse_args()
    rounds, seconds, trips = (1, 1, 300) if asked.quick else (5, 2, 1000)
    rounds = asked.rounds or rounds
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root for namespaces and containers")
    with ExitStack() as stack:
        found: list[Row] = []
        if asked.part != "tunnels":
            found += local_rows(stack)
        if asked.part != "local":
            found += tunnel_rows(stack, asked.tunnels.split(","))
        found = [r for r in found if re.search(asked.only, r.name)]
        for number in range(rounds):
            for r in found if number % 2 else reversed(found):
                flow = r.find()
                r.mbits.append(flow.iperf(seconds)["bits_per_second"] / 1e6)
                r.trips.append(flow.round_trip(trips))
        report(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
