"""Measure the first packets of a container that has just started:  python -m bench.first_packet.

For each driver a container A runs, and B is started by a plain POST.  From the moment that this is
answered each of the two pings the other one every 5 ms, until the tenth answer.  Lost are pings
without an answer though a later one had one; the time is that from the answer of the start until
the first answer of a ping.  Containers on two hosts are in a lab.  Needs root, and Open vSwitch for
its drivers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.drivers import lab
from bench.shapes import on_segment, switched
from netkit.lab.running import RunningLab
from tests.first_contact import contact

PATIENCE = 10.0  # seconds


@dataclass(slots=True)
class Case:
    name: str
    near: RunningLab
    hosts: tuple[str, str]  # of A and of B
    network: str
    lost: list[int] = field(default_factory=list)
    after: list[float] = field(default_factory=list)  # ms


def once(case: Case) -> None:
    engines = [case.near[host].daemon.engine() for host in case.hosts]
    try:
        to, back, begin = contact(engines[0], engines[1], case.network, patience=PATIENCE)
    finally:
        for engine in engines:
            engine.close()
    for each in (to, back):
        case.lost.append(each.lost)
        case.after.append(((each.first or begin + PATIENCE) - begin) * 1000)


def cases(stack: ExitStack) -> list[Case]:
    def up(name: str, document: dict[str, object]) -> RunningLab:
        return stack.enter_context(lab(f"bench-{name}", document))[0]

    lan = up("lan", on_segment())
    found = [
        Case("bridge (-b br0)", lan, ("h2", "h2"), "bridge"),
        Case("bridge (docker0)", lan, ("h1", "h1"), "bridge"),
        Case("lan", lan, ("h1", "h1"), "lan0"),
    ]
    if shutil.which("ovs-vswitchd"):
        for kind in ("gre", "vxlan"):
            tunnel = up(kind, switched(kind))
            if kind == "gre":
                found.append(Case("ovs", tunnel, ("h1", "h1"), "net"))
            found.append(Case(f"ovs, {kind} to another host", tunnel, ("h1", "h2"), "net"))
    weave = up("weave", overlaid())
    found.append(Case("weave", weave, ("h1", "h1"), "weave"))
    found.append(Case("weave, to another host", weave, ("h1", "h2"), "weave"))
    return found


def overlaid() -> dict[str, object]:
    """Two hosts that weave joins."""
    hosts: dict[str, object] = {
        f"h{n}": {
            "interfaces": {"eth0": {"segment": "lan", "address": f"10.0.0.{n}/24"}},
            "weave": words,
            "containers": {f"idle{n}": {}},  # so that there is the image
        }
        for n, words in ((1, []), (2, ["h1"]))
    }
    return {"summary": "weave", "underlay": {"lan": {}}, "hosts": hosts}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.first_packet", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root for namespaces and containers", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        found = cases(stack)
        for _ in range(options.rounds):
            for case in found:
                once(case)
        print(f"\n{'':30}  {'lost, most':>10}  {'lost, all':>9}  {'first, ms':>9}  {'most':>8}")
        for case in found:
            print(f"{case.name:30}  {max(case.lost):10}  {sum(case.lost):9}  "
                  f"{statistics.median(case.after):9.1f}  {max(case.after):8.1f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
