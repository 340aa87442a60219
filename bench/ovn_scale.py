"""Measure OVN with many chassis on this machine:  python -m bench.ovn_scale [--quick].

Real ones first: --chassis network namespaces, each with ovsdb-server, ovs-vswitchd and
ovn-controller on one underlay, and --ports logical ports of one switch, all bound.  One more port
is made again and again, by the northbound database and an interface, and pinged from another host.
Then simulated ones: --simulated clients of the southbound database (see bench.ovn_chassis), which
cost it, and ovn-northd, what ovn-controllers do, and compute no flows.  Needs root, ovn-central,
ovn-host.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.memory import proportional
from bench.scale import processor
from netkit.kernel import netns
from netkit.lab.openvswitch import DATABASE, SWITCH, OpenVSwitch
from netkit.lab.ovn import CONTROLLER, NORTHBOUND, NORTHD, SOUTHBOUND, Central, Controller
from tests.first_contact import Pings, ping

SUBNET = "10.70"  # /16
BATCH = 50  # rows of one northbound transaction
PROCESSES = 4  # of simulated chassis
ROUNDS = 10
PATIENCE = 60.0  # seconds
WINDOW = 5.0  # seconds that idle processes are looked at


def run(*argv: str, at: str = "") -> str:
    prefix = ["nsenter", f"--net=/run/netns/{at}", "--"] if at else []
    done = subprocess.run([*prefix, *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def mac(n: int) -> str:
    return f"02:70:00:00:{n >> 8:02x}:{n & 255:02x}"


def ip(n: int) -> str:
    return f"{SUBNET}.{n >> 8}.{n & 255}"


@dataclass
class Chassis:
    """A host: its eth0 is a port of br-phys, which has its address, so tunnels end there."""

    number: int
    name: str  # of its namespace
    vswitch: OpenVSwitch
    controller: Controller

    def bind(self, names: list[str]) -> None:
        """One internal port for each logical port."""
        words: list[str] = []
        for name in names:
            words += ["--", "add-port", "br-int", name, "--", "set", "interface", name,
                      "type=internal", f"external_ids:iface-id={name}"]  # fmt: skip
        self.vswitch.vsctl(*words[1:])


@dataclass
class Deployment:
    tag: str
    folder: Path
    central: Central
    chassis: list[Chassis] = field(default_factory=list)
    ports: int = 0
    boxes: int = 0

    def serial(self) -> int:
        """A number that no namespace had yet."""
        self.boxes += 1
        return self.boxes

    def pids(self) -> dict[str, list[int]]:
        """By kind."""
        found = {f"{kind} (central)": [self.central.pid(kind)]
                 for kind in (NORTHBOUND, SOUTHBOUND, NORTHD)}  # fmt: skip
        if self.chassis:
            found |= {kind: [c.vswitch.pid(kind) for c in self.chassis]
                      for kind in (DATABASE, SWITCH)}  # fmt: skip
            found[CONTROLLER] = [c.controller.pid(CONTROLLER) for c in self.chassis]
        return found

    def logical(self, count: int) -> list[str]:
        """`count` more logical ports."""
        names = [f"p{self.ports + n + 1}" for n in range(count)]
        for begin in range(0, count, BATCH):
            words: list[str] = []
            for name in names[begin : begin + BATCH]:
                at = int(name[1:]) + 256
                words += ["--", "lsp-add", "wide", name,
                          "--", "lsp-set-addresses", name, f"{mac(at)} {ip(at)}"]  # fmt: skip
            self.central.nbctl(*words[1:])
        self.ports += count
        return names

    def bound(self, count: int) -> None:
        """Wait until that many ports are up.

        Not by nb_cfg: chassis of OVN 23.03 whose first port comes were seen to leave it as it was
        until the next change.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            up = self.central.nbctl("--bare", "--columns=name", "find", "Logical_Switch_Port",
                                    "up=true")  # fmt: skip
            if len(up.split()) >= count:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {len(up.split())} of {count} ports are up")
            time.sleep(0.2)

    def synced(self) -> float:
        """Seconds until all chassis have acted on what the northbound database has."""
        begin = time.perf_counter()
        remote = f"--db=unix:{self.central.folder}/{NORTHBOUND}.sock"
        try:
            run("ovn-nbctl", remote, f"--timeout={PATIENCE:.0f}", "--wait=hv", "sync")
        except SystemExit as late:
            columns = "--columns=name,nb_cfg"
            seen = self.central.sbctl("--format=csv", columns, "list", "Chassis_Private")
            raise SystemExit(f"{late}\nacted on by each chassis:\n{seen}") from None
        return time.perf_counter() - begin


@contextmanager
def deployment() -> Iterator[Deployment]:
    tag = f"nk-{secrets.token_hex(2)}"
    with tempfile.TemporaryDirectory(prefix="nk.", dir="/tmp") as place, ExitStack() as stack:
        folder, home = Path(place), f"/run/netns/{tag}c"
        netns.create(home)
        stack.callback(netns.remove, home)
        central = Central(home, folder / "central")
        stack.callback(central.remove)
        central.start()
        central.nbctl("ls-add", "wide")
        made = Deployment(tag, folder, central)
        stack.callback(remove, made.chassis)
        yield made


def remove(every: list[Chassis]) -> None:
    for chassis in every:
        chassis.controller.stop()
        chassis.vswitch.remove()
        netns.remove(f"/run/netns/{chassis.name}")


def add(made: Deployment, number: int) -> Chassis:
    name = f"{made.tag}h{number}"
    netns.create(f"/run/netns/{name}")
    vswitch = OpenVSwitch(f"/run/netns/{name}", made.folder / f"h{number}")
    chassis = Chassis(number, name, vswitch, Controller(vswitch))
    made.chassis.append(chassis)
    end = f"10.9.0.{number}"
    run("ip", "link", "add", f"u{number}", "type", "veth", "peer", "name", "eth0", "netns", name,
        at=f"{made.tag}c")  # fmt: skip
    run("ip", "link", "set", f"u{number}", "master", "ul0", "up", at=f"{made.tag}c")
    run("ip", "link", "set", "eth0", "up", at=name)
    run("ip", "link", "set", "lo", "up", at=name)
    vswitch.start()
    vswitch.vsctl("add-br", "br-phys", "--", "set", "bridge", "br-phys", "datapath_type=netdev",
                  "--", "add-port", "br-phys", "eth0")  # fmt: skip
    run("ip", "addr", "add", f"{end}/24", "dev", "br-phys", at=name)
    run("ip", "link", "set", "br-phys", "up", at=name)
    south = f"unix:{made.central.folder}/{SOUTHBOUND}.sock"
    vswitch.vsctl("set", "Open_vSwitch", ".", f"external_ids:ovn-remote={south}",
                  "external_ids:ovn-encap-type=geneve", f"external_ids:ovn-encap-ip={end}",
                  f"external_ids:system-id=h{number}",
                  "external_ids:ovn-bridge-datapath-type=netdev")  # fmt: skip
    chassis.controller.start()
    return chassis


def settled(chassis: Chassis) -> None:
    """Wait for br-int."""
    deadline = time.monotonic() + PATIENCE
    while "br-int" not in chassis.vswitch.vsctl("list-br").split():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: {chassis.name} has no br-int")
        time.sleep(0.1)


def box(made: Deployment, host: Chassis, number: int) -> str:
    """A logical port and a namespace that is on it; returns the namespace's file."""
    name = f"b{number}"
    path = f"/run/netns/{made.tag}{name}"
    netns.create(path)
    inside = path.rpartition("/")[2]
    run("ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "address",
        mac(number), "netns", inside, at=host.name)  # fmt: skip
    run("ip", "link", "set", f"v{name}", "up", at=host.name)
    run("ip", "addr", "add", f"{ip(number)}/16", "dev", "eth0", at=inside)
    run("ip", "link", "set", "eth0", "mtu", "1442", "up", at=inside)
    made.central.nbctl("lsp-add", "wide", name,
                       "--", "lsp-set-addresses", name, f"{mac(number)} {ip(number)}")  # fmt: skip
    host.vswitch.vsctl("add-port", "br-int", f"v{name}", "--", "set", "interface", f"v{name}",
                       f"external_ids:iface-id={name}")  # fmt: skip
    return path


def unbox(made: Deployment, host: Chassis, number: int) -> None:
    host.vswitch.vsctl("del-port", "br-int", f"vb{number}")
    run("ip", "link", "del", f"vb{number}", at=host.name)
    made.central.nbctl("lsp-del", f"b{number}")
    netns.remove(f"/run/netns/{made.tag}b{number}")


def one_more(made: Deployment, rounds: int) -> list[float]:
    """Milliseconds from before the logical port is made until another host's ping is answered.

    Some 40 of them are this script's own programs: a namespace, ip(8), ovn-nbctl, ovs-vsctl.
    """
    found = []
    source = box(made, made.chassis[0], made.serial())
    for n in range(rounds):
        host, number = made.chassis[1 + n % (len(made.chassis) - 1)], made.serial()
        begin = time.perf_counter()
        box(made, host, number)
        try:
            seen = ping(source, ip(number), answers=1, patience=PATIENCE)
        except TimeoutError:  # requests pile up behind ARP
            seen = Pings()
        if seen.first is None:
            raise SystemExit(f"bench: no packet passed to {number} on {host.name}")
        found.append((seen.first - begin) * 1000)
        unbox(made, host, number)
    unbox(made, made.chassis[0], int(source.rpartition("b")[2]))
    return found


@contextmanager
def watched(made: Deployment, what: str) -> Iterator[None]:
    """Print the processor time each kind used meanwhile, and its memory afterwards."""
    pids, begin = made.pids(), time.perf_counter()
    before = {pid: processor(pid) for every in pids.values() for pid in every}
    yield
    took = time.perf_counter() - begin
    print(f"\n{what}: {took:.1f} s")
    print(f"{'':26}  {'count':>5}  {'CPU, %':>7}  {'PSS, MiB':>9}  {'most':>6}")
    for kind, every in pids.items():
        used = sum(processor(pid) - before[pid] for pid in every) / 10 / took
        sizes = [proportional(pid) for pid in every]
        print(f"{kind:26}  {len(every):5}  {used:7.1f}  {statistics.median(sizes):9.1f}"
              f"  {max(sizes):6.1f}", flush=True)  # fmt: skip


def real(count: int, ports: int, rounds: int) -> None:
    with deployment() as made:
        run("ip", "link", "add", "ul0", "type", "bridge", at=f"{made.tag}c")
        run("ip", "link", "set", "ul0", "up", at=f"{made.tag}c")
        begin = time.perf_counter()
        for n in range(1, count + 1):
            add(made, n)
        for chassis in made.chassis:
            settled(chassis)
        made.synced()
        print(f"{count} chassis, each with tunnels to all, in {time.perf_counter() - begin:.1f} s")
        report("one more port, of 0", one_more(made, rounds))
        with watched(made, f"{ports} logical ports made and bound"):
            names = made.logical(ports)
            for n, chassis in enumerate(made.chassis):
                if mine := names[n::count]:
                    chassis.bind(mine)
            made.bound(ports)
        report(f"one more port, of {ports}", one_more(made, rounds))
        with watched(made, "idle"):
            time.sleep(WINDOW)


def report(what: str, samples: list[float]) -> None:
    """Samples are milliseconds."""
    print(f"{what}: median {statistics.median(samples):.0f} ms, worst {max(samples):.0f} ms",
          flush=True)  # fmt: skip


def simulated(count: int, ports: int, rounds: int) -> None:
    with deployment() as made, ExitStack() as stack:
        made.logical(ports)
        made.central.nbctl("--wait=sb", "sync")
        ids = made.central.sbctl("--bare", "--columns=_uuid", "find", "Port_Binding").split()
        datapath = made.central.sbctl("--bare", "--columns=_uuid", "find", "Datapath_Binding")
        sock = str(made.central.folder / f"{SOUTHBOUND}.sock")
        share = -(-count // PROCESSES)
        with watched(made, f"{count} simulated chassis register"):
            running = []
            for first in range(0, count, share):
                many = min(share, count - first)
                process = subprocess.Popen(
                    [sys.executable, "-m", "bench.ovn_chassis", sock, str(first), str(many),
                     datapath.strip(), *ids[first : first + many]],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                stack.callback(process.kill)
                running.append(process)
            for process in running:
                assert process.stdout is not None
                if process.stdout.readline().strip() != "ready":
                    raise SystemExit("bench: a process of simulated chassis ended")
        with watched(made, f"{rounds} times one more port, until all chassis know"):
            took = []
            for _ in range(rounds):
                begin = time.perf_counter()
                made.logical(1)
                made.synced()
                took.append((time.perf_counter() - begin) * 1000)
        report("one more logical port, known by all", took)
        with watched(made, "idle"):
            time.sleep(WINDOW)
        total = sum(int(process.communicate("end\n")[0]) for process in running)
        print(f"received by all together: {total / 1e6:.0f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.ovn_scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few of all, to try it out")
    parser.add_argument("--chassis", type=int, help="real ones (default 32)")
    parser.add_argument("--ports", type=int, help="logical ports (default 1000)")
    parser.add_argument("--simulated", type=int, help="simulated chassis (default 500)")
    parser.add_argument("--part", choices=("real", "simulated"), help="that alone")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root for namespaces")
    chassis, ports, many, rounds = (4, 40, 20, 3) if asked.quick else (32, 1000, 500, ROUNDS)
    ports = asked.ports or ports
    if asked.part != "simulated":
        real(asked.chassis or chassis, ports, rounds)
    if asked.part != "real":
        simulated(asked.simulated or many, ports, rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
