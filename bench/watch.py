"""Measure how soon what another tool changes is repaired:  python -m bench.watch [--only TEXT].

For each driver a network with a running container; each change is made by hand, with `ip` as an
administrator would.  Two times follow, in seconds after the change: until links, addresses and
routes of the host and the container are as before; and until the last packet is lost or late of
those that the container sends to a host beyond its gateway, one each 20 ms ("-": none is).  A
combination that is not repaired, or after which no packets flow, is a fault: exit 1.  Needs root;
the ovs driver needs openvswitch-switch.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from netkit.kernel import netns
from netkit.lab.openvswitch import OpenVSwitch
from tests.engine.daemon import Engine
from tests.engine.wire import NEIGHBOUR, WORLD, Wire, ip

PERIOD = 0.02  # seconds between packets
SETTLE = 1.2  # seconds between changes: a thing that is changed twice waits one
LATE = 0.1  # seconds until an answer counts as late: it waited for ARP
PATIENCE = 20.0  # seconds until a change counts as not repaired
ECHO_REQUEST, ECHO_REPLY = 8, 0

DRIVERS: Mapping[str, tuple[str, ...]] = {
    "docker0": (),
    "user-defined": ("--subnet", "10.61.0.0/24"),
    "icc=false": ("--subnet", "10.62.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false"),
    "br0 of the admin": ("--subnet", "10.63.0.0/24", "-o", "com.docker.network.bridge.name=br0"),
    "lan": (
        "--driver", "lan", "-o", "parent=eth0", "--subnet", "10.77.0.0/24", "--gateway", NEIGHBOUR,
        "--ip-range", "10.77.0.128/26",
    ),
    "ovs": ("--driver", "ovs", "--subnet", "10.64.0.0/24"),
    "weave": (
        "--driver", "weave", "-o", "expose=true", "--subnet", "10.65.0.0/24", "--gateway",
        "10.65.0.1",
    ),
}  # fmt: skip

# In the host, or in the container where the word before is "c:".
# The bridge is deleted last: one of the administrator's is netkit's from then on.
CHANGES = (
    "link del {pair}", "link set {pair} nomaster", "link set {pair} down",
    "link set {pair} mtu 1280", "link set {pair} name foo", "link set {pair} netns {elsewhere}",
    "addr del {gateway} dev {bridge}", "route del {subnet} dev {bridge}",
    "c: addr del {address} dev eth0", "c: route del default", "c: link set eth0 name foo",
    "link set {bridge} down", "link set {bridge} mtu 1390", "link set {bridge} name foo",
    "link del {tap}", "link del {vxlan}", "link set {vxlan} nomaster", "link del {bridge}",
)  # fmt: skip


class Probe:
    """Echo requests from a container's namespace, and which of them were answered."""

    def __init__(self, sandbox: str, target: str) -> None:
        self._target = target
        self._ident = secrets.randbits(16)
        self._socket = netns.open_socket(
            sandbox, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP
        )
        self._socket.settimeout(0.1)
        self._sent: list[float] = []
        self._answered: dict[int, float] = {}  # when, by number
        self._over = False
        self._threads = [threading.Thread(target=t) for t in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._over:
            head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, self._ident, len(self._sent))
            total = sum(struct.unpack("!4H", head))
            total = (total & 0xFFFF) + (total >> 16)
            head = head[:2] + struct.pack("!H", ~total & 0xFFFF) + head[4:]
            self._sent.append(time.monotonic())
            with suppress(OSError):  # no route, link down
                self._socket.sendto(head, (self._target, 0))
            time.sleep(PERIOD)

    def _receive(self) -> None:
        while not self._over:
            with suppress(OSError):
                data = self._socket.recv(512)
                kind, _, _, ident, number = struct.unpack_from("!BBHHH", data, 20)
                if (kind, ident) == (ECHO_REPLY, self._ident):
                    self._answered.setdefault(number, time.monotonic())

    def flows(self, since: float) -> bool:
        return any(self._sent[n] >= since for n in self._answered.copy())

    def disturbed(self, since: float) -> float | None:
        """Until when packets sent since were lost or late, in seconds; None: none was.

        Those of the last half second are not looked at.
        """
        end, last = time.monotonic() - 0.5, 0.0
        for number, sent in enumerate(self._sent.copy()):
            if since <= sent < end:
                answered = self._answered.get(number, sent)
                if number not in self._answered or answered - sent > LATE:
                    last = max(last, answered - since)
        return last or None

    def close(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()
        self._socket.close()


@dataclass
class Town:
    """An engine, its Open vSwitch, and a network of a driver."""

    engine: Engine
    vswitch: OpenVSwitch | None
    elsewhere: str

    def at(self, place: str, *argv: str) -> str:
        done = subprocess.run(
            ["nsenter", f"--net={place or f'/run/netns/{self.engine.netns}'}", *argv],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else done.stderr

    def shape(self, sandbox: str) -> object:
        """What another tool could change, of the host and of the container."""
        links: list[object] = []
        for place in ("", sandbox):
            with suppress(ValueError):
                for x in json.loads(self.at(place, "ip", "-j", "-4", "addr")):
                    found = sorted(a["local"] for a in x.get("addr_info", ()))
                    links.append((place, x["ifname"], found))
                for x in json.loads(self.at(place, "ip", "-j", "link")):
                    up = "UP" in x["flags"]
                    links.append((place, x["ifname"], x.get("master", ""), x["mtu"], up))
                for x in json.loads(self.at(place, "ip", "-j", "-4", "route")):
                    links.append((place, x["dst"], x.get("gateway", ""), x.get("dev", "")))
        if self.vswitch is not None:
            links.append(sorted(self.vswitch.vsctl("--columns=name", "list", "Port").split()))
        return sorted(map(str, links))


def networks(town: Town, driver: str) -> str:
    """The name of a new network, or of the one there always is."""
    if driver == "docker0":
        return "bridge"
    if driver == "br0 of the admin":
        for command in ("link add br0 type bridge", "addr add 10.63.0.1/24 dev br0",
                        "link set br0 up"):  # fmt: skip
            ip("-n", town.engine.netns, *command.split())
    name = f"n{secrets.token_hex(2)}"
    town.engine.docker("network", "create", *DRIVERS[driver], name)
    return name


def places(town: Town, network: str, container: str) -> dict[str, str]:
    """What the words in braces of CHANGES are; and where the container is."""
    settings = town.engine.inspect(container)["NetworkSettings"]
    found = settings["Networks"][network]
    about = json.loads(town.engine.out("network", "inspect", network))[0]
    prefix = "nkv" if about["Driver"] == "ovs" else "veth"
    digits = 12 if about["Driver"] == "ovs" else 11
    pair = f"{prefix}{found['EndpointID'][:digits]}"
    options = about["Options"] or {}
    bridge = options.get("com.docker.network.bridge.name") or {
        "bridge": f"br-{about['Id'][:12]}", "lan": "br-eth0", "ovs": f"nko{about['Id'][:12]}",
        "weave": f"wv-{about['Id'][:12]}",
    }[about["Driver"]]  # fmt: skip
    gateway = IPv4Interface(f"{found['Gateway']}/{found['IPPrefixLen']}")
    return {
        "pair": pair, "bridge": bridge, "gateway": str(gateway), "subnet": str(gateway.network),
        "address": f"{found['IPAddress']}/{found['IPPrefixLen']}", "elsewhere": town.elsewhere,
        "sandbox": settings["SandboxKey"], "tap": f"wt-{about['Id'][:12]}",
        "vxlan": f"wx-{about['Id'][:12]}",
    }  # fmt: skip


def applies(driver: str, change: str) -> bool:
    """Is this netkit's to repair, and possible?

    A bridge of the administrator's is as he wants it.  Of a lan the addresses and routes of the
    bridge are the host's own.  In the userspace datapath a port has no master.
    Only weave has ports to other hosts.
    """
    if "{tap}" in change or "{vxlan}" in change:
        return driver == "weave"
    match driver:
        case "br0 of the admin":
            return "set {bridge}" not in change
        case "lan":
            return "{gateway}" not in change and "{subnet}" not in change
        case "ovs":
            return "nomaster" not in change
    return True


def measure(town: Town, network: str, change: str) -> str:
    """ "repaired / flowing", in seconds."""
    engine = town.engine
    name = engine.sleeper("--network", network)
    at = places(town, network, name)
    probe = Probe(at["sandbox"], WORLD)
    try:
        begin = time.monotonic()
        while not probe.flows(begin):
            if time.monotonic() > begin + PATIENCE:
                return "no packets before"
            time.sleep(PERIOD)
        time.sleep(SETTLE)
        before = town.shape(at["sandbox"])
        inside, command = change.startswith("c: "), change.removeprefix("c: ").format(**at)
        begin = time.monotonic()
        if said := town.at(at["sandbox"] if inside else "", "ip", *command.split()):
            return f"not possible: {said.strip()}"
        while town.shape(at["sandbox"]) != before:
            if time.monotonic() > begin + PATIENCE:
                return "NOT REPAIRED"
            time.sleep(PERIOD)
        repaired = time.monotonic() - begin
        end = time.monotonic()
        while not probe.flows(end):
            if time.monotonic() > end + PATIENCE:
                return f"{repaired:.1f} / NO PACKETS"
            time.sleep(PERIOD)
        time.sleep(0.6)
        disturbed = probe.disturbed(begin)
        if engine.netkit("net", "check", check=False).returncode:
            return f"{repaired:.1f}, NET CHECK SHOWS DRIFT"
        return f"{repaired:.1f} / {f'{disturbed:.1f}' if disturbed is not None else '-'}"
    finally:
        probe.close()
        engine.docker("rm", "-f", name)


def table(found: Mapping[tuple[str, str], str], drivers: list[str]) -> Iterator[str]:
    """In Markdown."""
    yield f"| `ip ...` | {' | '.join(drivers)} |"
    yield f"|---|{'---|' * len(drivers)}"
    for change in dict.fromkeys(c for _, c in found):
        yield f"| `{change}` | {' | '.join(found.get((d, change), '') for d in drivers)} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.watch", description=__doc__)
    parser.add_argument("--only", default="", help="changes that contain this text")
    parser.add_argument("--drivers", default=",".join(DRIVERS), help="comma separated")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root for namespaces and containers", file=sys.stderr)
        return 1
    chosen = [d for d in options.drivers.split(",") if d in DRIVERS]
    if not shutil.which("ovs-vswitchd") and "ovs" in chosen:
        print("bench: ovs is left out: needs openvswitch-switch", flush=True)
        chosen.remove("ovs")
    found: dict[tuple[str, str], str] = {}
    for driver in chosen:
        for change, result in measured(driver, options.only):
            found[driver, change] = result
            print(f"{driver}: ip {change}: {result}", flush=True)
    print("\n" + "\n".join(table(found, chosen)))
    return int(any(word in r for r in found.values() for word in ("NO", "DRIFT")))


def measured(driver: str, only: str) -> Iterator[tuple[str, str]]:
    """Each change and what came of it, with an engine of its own."""
    with ExitStack() as own:
        wire = Wire.lay(prefix="nk-b")
        own.callback(wire.remove)
        vswitch = None
        if driver == "ovs":
            folder = Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp"))
            vswitch = OpenVSwitch(f"/run/netns/{wire.host}", folder)
            own.callback(vswitch.remove)
            vswitch.start()
        engine = Engine(wire, flags=("--ovs-db", vswitch.remote) if vswitch is not None else ())
        own.callback(engine.destroy)
        engine.start()
        engine.load_image()
        elsewhere = f"{wire.host}-x"
        ip("netns", "add", elsewhere)
        own.callback(ip, "netns", "del", elsewhere)
        town = Town(engine, vswitch, elsewhere)
        network = networks(town, driver)
        for change in CHANGES:
            if only in change and applies(driver, change):
                yield change, measure(town, network, change)


if __name__ == "__main__":
    sys.exit(main())
