"""Measure the ovn driver beside driver ovs with geneve:  python -m bench.ovn [--quick].

Two hosts of a lab have a network of each driver on one Open vSwitch each; h1 is the server of OVN.
Everything is measured on both in turn: TCP and round trips between containers of the hosts, the
start of a container until a ping of the other host's is answered, and network connect.  Ratios are
medians of the ratios of rounds.  Needs root, iperf3, openvswitch-switch, ovn-host, ovn-central.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from bench.drivers import lab
from bench.flows import Flow
from netkit.client.engine import Engine
from netkit.lab.running import RunningLab
from tests.first_contact import contact

OVN, OVS = "ovn", "ovs, geneve"
NETWORKS = {OVN: "wide", OVS: "mesh"}
PATIENCE = 10.0  # seconds
RATE, TRIP = "one TCP flow between hosts, Mbit/s", "round trip, µs"
START, FIRST = "container started, ms", "first ping after that, ms"
WHOLE = "from the call to the first ping, ms"
CONNECT, DISCONNECT = "network connect, ms", "network disconnect, ms"
AIMS = {RATE: (0.95, ">="), WHOLE: (1.2, "<=")}


def document() -> dict[str, object]:
    hosts: dict[str, object] = {}
    for n, far in ((1, 2), (2, 1)):
        part = {"gateway": "10.51.0.1", "subnet": "10.51.0.0/22", "ip_range": f"10.51.{n}.0/24"}
        options = {"peers": f"10.0.0.{far}", "tunnel": "geneve"}
        mesh = {"driver": "ovs", "gateway": "10.50.0.1", "subnet": "10.50.0.0/22",
                "ip_range": f"10.50.{n}.0/24", "options": options}  # fmt: skip
        hosts[f"h{n}"] = {
            "interfaces": {"eth0": {"segment": "lan", "address": f"10.0.0.{n}/24"}},
            "ovs": True,
            "networks": {"wide": {"driver": "ovn"} | part, "mesh": mesh},
            "containers": {f"c{n}": {"networks": ["wide", "mesh"]}, f"joins{n}": {}},
        }
    return {"summary": "ovn and ovs", "underlay": {"lan": {}}, "ovn": ["h1"], "hosts": hosts}


class Timed:
    """An engine; how long its last POST took."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.took = 0.0  # ms

    def post(self, path: str, query: Any = None, body: object = None) -> Any:
        begin = time.perf_counter()
        answer = self._engine.post(path, query, body=body)
        self.took = (time.perf_counter() - begin) * 1000
        return answer

    def get(self, path: str, query: Any = None) -> Any:
        return self._engine.get(path, query)

    def delete(self, path: str, query: Any = None) -> Any:
        return self._engine.delete(path, query)


@dataclass
class Samples:
    found: dict[str, dict[str, list[float]]] = field(default_factory=dict)  # by row and driver
    lost: dict[str, int] = field(default_factory=dict)  # pings, by driver

    def add(self, row: str, driver: str, value: float) -> None:
        self.found.setdefault(row, {}).setdefault(driver, []).append(value)


def flows(up: RunningLab, seconds: float, trips: int, into: Samples, turn: list[str]) -> None:
    for driver in turn:
        flow = Flow(up["c1"].netns, up["c2"].netns, up["c2"].address(NETWORKS[driver]))
        into.add(RATE, driver, flow.iperf(seconds)["bits_per_second"] / 1e6)
        into.add(TRIP, driver, flow.round_trip(trips))


def starts(engines: tuple[Engine, Engine], into: Samples, turn: list[str]) -> None:
    """A container of the first host pings one of the second that is just started."""
    for driver in turn:
        far = Timed(engines[1])
        seen, back, begin = contact(engines[0], far, NETWORKS[driver], patience=PATIENCE)  # type: ignore[arg-type]
        after = ((seen.first or begin + PATIENCE) - begin) * 1000
        into.add(START, driver, far.took)
        into.add(FIRST, driver, after)
        into.add(WHOLE, driver, far.took + after)
        into.lost[driver] = into.lost.get(driver, 0) + seen.lost + back.lost


def joins(engine: Engine, into: Samples, turn: list[str]) -> None:
    for driver in turn:
        timed, path = Timed(engine), f"/networks/{NETWORKS[driver]}"
        timed.post(f"{path}/connect", body={"Container": "joins1"})
        into.add(CONNECT, driver, timed.took)
        timed.post(f"{path}/disconnect", body={"Container": "joins1", "Force": False})
        into.add(DISCONNECT, driver, timed.took)


def report(samples: Samples) -> None:
    print(f"\n{'':38}  {'ovn':>8}  {'ovs':>8}  {'ratio':>6}  aim")
    for row, by_driver in samples.found.items():
        ovn, ovs = by_driver[OVN], by_driver[OVS]
        ratio = statistics.median(a / b for a, b in zip(ovn, ovs, strict=True))
        print(f"{row:38}  {statistics.median(ovn):8.1f}  {statistics.median(ovs):8.1f}"
              f"  {ratio:6.2f}  {verdict(row, ratio)}".rstrip())  # fmt: skip
    print(f"pings lost before the first answer: {_words(samples.lost)}")


def verdict(row: str, ratio: float) -> str:
    if row not in AIMS:
        return ""
    aim, way = AIMS[row]
    met = ratio >= aim if way == ">=" else ratio <= aim
    return f"{way} {aim}: {'met' if met else 'missed'}"


def _words(lost: Mapping[str, int]) -> str:
    return ", ".join(f"{driver} {n}" for driver, n in lost.items())


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.ovn", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to try it out")
    parser.add_argument("--rounds", type=int, help="of throughput (default 7, quick 1)")
    asked = parser.parse_args()
    rounds, seconds, trips, often = (1, 1, 300, 2) if asked.quick else (7, 3, 1000, 20)
    rounds = asked.rounds or rounds
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root for namespaces and containers")
    samples = Samples()
    with ExitStack() as stack:
        up, _ = stack.enter_context(lab("bench-ovn", document()))
        engines = (up.h1.daemon.engine(), up.h2.daemon.engine())
        for engine in engines:
            stack.callback(engine.close)
        turns = [[OVN, OVS], [OVS, OVN]]
        for n in range(rounds):
            flows(up, seconds, trips, samples, turns[n % 2])
        for n in range(often):
            starts(engines, samples, turns[n % 2])
            joins(engines[0], samples, turns[n % 2])
    report(samples)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
