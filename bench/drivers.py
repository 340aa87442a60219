"""Measure netkit's network drivers on this machine:  python -m bench.drivers [--quick].

Each driver stands beside what an administrator would make by hand: a plain bridge with veths, and
an Open vSwitch GRE tunnel on the same datapath that leaves the host's NIC alone as the driver does,
switched and routed; that one beside a tunnel for which the NIC is given to Open vSwitch.  All are
there at once and are measured in turn, so that the noise of the machine affects them alike.
Everything is in namespaces of its own; needs root, iperf3, ethtool and openvswitch-switch.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.flows import Flow
from bench.handmade import apart, gre, plain, routed, segment
from bench.shapes import bridged, on_segment, plain_hosts, switched
from netkit.lab.running import RunningLab

MININET = """
import sys, time
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo
topo = SingleSwitchTopo(int(sys.argv[1]))
net = Mininet(topo=topo, switch=LinuxBridge, controller=None, build=False)
begin = time.perf_counter()
net.build(); net.start()
print(time.perf_counter() - begin)
net.stop()
"""
PLAIN, MADE = "plain bridge, by hand", "Open vSwitch GRE, by hand"
SEGMENT, ROUTED = "bridges of two hosts, by hand", "the tunnel routed, by hand"
APART = "the NIC left alone, by hand"


@dataclass(frozen=True)
class Scale:
    rounds: int = 5
    seconds: int = 4  # of each throughput sample
    trips: int = 3000  # of each latency sample
    attached: int = 9
    hosts: tuple[int, ...] = (2, 10, 50, 200)
    engines: tuple[int, ...] = (2, 10)
    matrix: int = 50


QUICK = Scale(rounds=1, seconds=1, trips=500, attached=3, hosts=(2,), engines=(2,), matrix=10)


@dataclass
class Way:
    """A path from one namespace to another, with the samples taken on it."""

    name: str
    beside: str  # the name of what it is compared with
    ends: Callable[[], Flow]
    mbits: list[float] = field(default_factory=list)
    trips: list[float] = field(default_factory=list)  # µs


# labs


@contextmanager
def lab(name: str, document: dict[str, object]) -> Iterator[tuple[RunningLab, float]]:
    """A lab that is up, and the seconds that took; the image is there beforehand."""
    with tempfile.TemporaryDirectory(prefix="nk-bench-") as folder:
        (Path(folder) / "lab.yml").write_text(json.dumps(document))  # YAML 1.2 holds JSON
        running = RunningLab(folder, f"{name}-{secrets.token_hex(2)}")
        begin = time.perf_counter()
        try:
            running.up()
            yield running, time.perf_counter() - begin
        finally:
            running.down()


def _ends(running: RunningLab, client: str, server: str) -> Callable[[], Flow]:
    def find() -> Flow:
        return Flow(running[client].netns, running[server].netns, running[server].ip)

    return find


def ways(stack: ExitStack) -> tuple[list[Way], dict[str, RunningLab]]:
    """Set up all paths; also the labs in which a container can join a network, by driver."""
    bridge, tunnel = stack.enter_context(plain()), stack.enter_context(gre())
    routes, wire = stack.enter_context(routed()), stack.enter_context(segment())
    left = stack.enter_context(apart())
    labs = {"bridge": stack.enter_context(lab("bench-bridge", bridged()))[0]}
    for kind in ("gre", "vxlan", "geneve", "routed"):
        labs[f"ovs, {kind}"] = stack.enter_context(lab(f"bench-{kind}", switched(kind)))[0]
    lan, _ = stack.enter_context(lab("bench-lan", on_segment()))
    return [
        Way(PLAIN, PLAIN, lambda: bridge),
        Way("bridge, docker0", PLAIN, _ends(labs["bridge"], "other1", "other2")),
        Way("bridge, user-defined", PLAIN, _ends(labs["bridge"], "c1", "c2")),
        Way("bridge, -b br0", PLAIN, _ends(lan, "far", "farther")),
        Way(SEGMENT, SEGMENT, lambda: wire),
        Way("lan, to another host", SEGMENT, _ends(lan, "near", "far")),
        Way(MADE, MADE, lambda: tunnel),
        Way(APART, MADE, lambda: left),
        Way(ROUTED, ROUTED, lambda: routes),
        *(
            Way(name, ROUTED if "routed" in name else APART, _ends(running, "c1", "c2"))
            for name, running in labs.items()
            if name != "bridge"
        ),
    ], labs


def attach(running: RunningLab, count: int) -> float:
    """ms for a running container to join one more network of its host, the median."""
    engine = running["h1"].daemon.engine()
    took = []
    try:
        for _ in range(count):
            begin = time.perf_counter()
            engine.post("/networks/net/connect", body={"Container": "other1"})
            took.append((time.perf_counter() - begin) * 1000)
            engine.post("/networks/net/disconnect", body={"Container": "other1"})
    finally:
        engine.close()
    return statistics.median(took)


def mininet(count: int) -> float | None:
    """Seconds for as many hosts on one Linux bridge; None if it is not installed."""
    if not shutil.which("mn"):
        return None
    name = f"nk-mn-{secrets.token_hex(2)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        argv = ["nsenter", f"--net=/run/netns/{name}", "--", "/usr/bin/python3", "-c", MININET]
        done = subprocess.run(
            [*argv, str(count)], capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            print(f"bench: mininet is left out: {done.stderr.strip()[-300:]}", flush=True)
            return None
        return float(done.stdout.split()[-1])
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def changed(count: int) -> tuple[float, float]:
    """Seconds of `lab apply` and of its --plan, where one address of so many hosts is another."""
    document = plain_hosts(count, daemon=False)
    with lab("bench-apply", document) as (running, _):
        text = json.dumps(document)
        last = f"10.0.{count // 200}.{count % 200 + 1}/16"
        if text.count(f'"{last}"') != 1:
            raise RuntimeError(f"no single {last}")
        (Path(running.lab.folder) / "lab.yml").write_text(text.replace(last, "10.0.255.9/16"))
        took = []
        for more, code in ((["--plan"], 2), ([], 0)):
            argv = [sys.executable, "-m", "netkit", "lab", "apply", *more, running.lab.folder]
            begin = time.perf_counter()
            done = subprocess.run(
                [*argv, "--name", running.name], check=False, stdout=subprocess.DEVNULL
            )
            took.append(time.perf_counter() - begin)
            if done.returncode != code:
                raise RuntimeError(f"{argv}: {done.returncode}")
    return took[1], took[0]


def matrix(count: int) -> float:
    """Seconds to ping between all pairs of `count` containers on docker0 of one host."""
    document = plain_hosts(1, daemon=True)
    document["hosts"]["h1"]["containers"] = {f"c{n}": {} for n in range(count)}  # type: ignore[index]
    document["checks"] = ["c* <-> c* icmp ok"]
    with lab("bench-all", document) as (running, _):
        begin = time.perf_counter()
        answer = running.check()
        took = time.perf_counter() - begin
        if not answer:
            raise RuntimeError(f"not all containers reach each other: {answer!r}")
    return took


def _figure(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def report(found: list[Way]) -> None:
    by_name = {w.name: w for w in found}
    print(f"\n{'':30}  {'Mbit/s':>8}  {'of hand-made':>12}  {'trip, us':>8}  {'of hand-made':>12}")
    for w in found:
        base = by_name[w.beside]
        rate, trip = statistics.median(w.mbits), statistics.median(w.trips)
        shares = [rate / statistics.median(base.mbits), trip / statistics.median(base.trips)]
        print(f"{w.name:30}  {rate:8,.0f}  {shares[0]:12.2f}  {trip:8,.1f}  {shares[1]:12.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.drivers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to try it out")
    scale = QUICK if parser.parse_args().quick else Scale()
    for program in ("iperf3", "ethtool", "ovs-vswitchd"):
        if not shutil.which(program):
            print(f"bench: needs {program} "
                  "(run: apt-get install iperf3 ethtool openvswitch-switch)",
                  file=sys.stderr)  # fmt: skip
            return 1
    if os.geteuid() != 0:
        print("bench: needs root for namespaces and containers", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        found, labs = ways(stack)
        for _ in range(scale.rounds):
            for w in found:
                print(f"bench: {w.name}", flush=True)
                flow = w.ends()
                w.mbits.append(flow.iperf(scale.seconds)["bits_per_second"] / 1e6)
                w.trips.append(flow.round_trip(scale.trips))
        report(found)
        print("\nnetwork connect, ms")
        for name, running in labs.items():
            print(f"{name:30}  {_figure(attach(running, scale.attached), 1):>8}")
    print(f"\n{'lab up, s':30}  {'netkit':>8}  {'mininet':>8}")
    for count in scale.hosts:
        with lab("bench-up", plain_hosts(count, daemon=False)) as (_, took):
            pass
        print(f"{f'{count} hosts':30}  {took:8.2f}  {_figure(mininet(count), 2):>8}", flush=True)
    for count in scale.engines:
        with lab("bench-up", plain_hosts(count, daemon=True)) as (_, took):
            print(f"{f'{count} hosts with an engine':30}  {took:8.2f}  {'-':>8}", flush=True)
    took, plan = changed(scale.hosts[-1])
    print(f"{f'apply, one of {scale.hosts[-1]} changed':30}  {took:8.2f}  (--plan {plan:.2f})")
    pairs = scale.matrix * (scale.matrix - 1)
    print(f"{f'{pairs:,} checks of {scale.matrix} containers':30}  {matrix(scale.matrix):8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
