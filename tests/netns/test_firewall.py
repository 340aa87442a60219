"""Who reaches whom, packet by packet, with each back end of plugins.firewall.iptables.

far --- lan0 | host (the lab) | one: web 172.18.0.2, mate 172.18.0.3
198.51.100.9 | 198.51.100.1   | two: other 172.19.0.2
                              | in:  inner (internal)
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from netkit.kernel import netns
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.reconcile.converge import ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.spec import EndpointSpec, NetworkSpec, PortSpec, Sandbox
from netkit.store import Database
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from plugins.host import Host as HostDriver
from plugins.none import Null
from tests.netns.conftest import Lab
from tests.netns.home_ports import HomePorts

pytestmark = pytest.mark.root
FAR, LAN = "198.51.100.9", "198.51.100.1"
ICC = "com.docker.network.bridge.enable_icc"
MODE = "com.docker.network.bridge.gateway_mode_ipv4"
TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
SHORT = 0.4  # seconds after which a packet is taken for dropped
LONGER = 0.8  # the same, where many ask at once
Ask = tuple[str, str, int]  # who, address, port


@dataclass
class Town:
    lab: Lab
    net: Controller
    listeners: list[socket.socket]
    backend: str  # nft or legacy: of iptables; native: nf_tables

    def ns(self, who: str) -> str:
        """Return a namespace; the neighbour's is outside netkit's folder, which netkit sweeps."""
        return {"host": self.lab.home, "far": f"{self.lab.home}-far"}.get(who, self.lab.ns(who))

    def serve(self, who: str, port: int, ip: str = "0.0.0.0") -> None:
        """Answer each client with the address it is seen by."""
        with netns.inside(self.ns(who)):
            s = socket.create_server((ip, port))
        self.listeners.append(s)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    peer, address = s.accept()
                    with peer:
                        peer.sendall(f"{who} {address[0]}".encode())

        threading.Thread(target=answer, daemon=True).start()

    def ask(self, who: str, ip: str, port: int, within: float = SHORT) -> str:
        """ "<server> <client's address as it saw it>", or "" without an answer."""
        with netns.inside(self.ns(who)):
            try:
                with socket.create_connection((ip, port), within) as s:
                    return s.recv(99).decode()
            except OSError:
                return ""

    def asked(self, asks: Iterable[Ask], within: float = SHORT) -> dict[Ask, str]:
        """Ask all of them at once, so that their timeouts overlap; return the answers."""
        asks = list(asks)
        with ThreadPoolExecutor(len(asks)) as pool:
            return dict(zip(asks, pool.map(lambda a: self.ask(*a, within), asks), strict=True))

    def open(self, name: str, network: str, *ports: PortSpec) -> str:
        box = Sandbox(id=name.encode().hex().ljust(64, "0"), name=name, ns=self.ns(name))
        want = EndpointSpec(network=self.net.find(network).id)
        (record,) = self.net.open(box, [want], ports)
        return record.address.split("/")[0]

    def tool(self) -> str:
        return "iptables-legacy" if self.backend == "legacy" else "iptables-nft"

    def dropped(self, table: str, chain: str, native: str) -> int:
        """Return the highest packet count of a drop rule, in an iptables chain or our table."""
        if self.backend == "native":
            text = self.lab.run("nft", "list", "chain", "ip", "netkit", native)
            return max(int(n) for n in re.findall(r"counter packets (\d+) .* drop", text))
        text = self.lab.run(self.tool(), "-t", table, "-vxnL", chain)
        return max(int(line.split()[0]) for line in text.splitlines() if "DROP" in line)

    def rules(self) -> list[str]:
        """Return rules of iptables and of nf_tables, without counters."""
        saved = self.lab.run(f"{self.tool()}-save").splitlines()
        plain = [line.split(" [")[0] for line in saved if not line.startswith("#")]
        if self.backend == "native":
            plain += self.lab.run("nft", "-s", "list", "ruleset").splitlines()
        return plain

    def names(self) -> set[str]:
        return {line.split(":")[1].strip().split("@")[0]
                for line in self.lab.run("ip", "-o", "link").splitlines()}  # fmt: skip


def tcp(inside: int, host: int, ip: str = "") -> PortSpec:
    return PortSpec(proto="tcp", container_port=inside, host_ip=ip, host_first=host, host_last=host)


@pytest.fixture
def far(lab: Lab) -> Iterator[str]:
    path = f"{lab.home}-far"
    netns.create(path)
    yield path
    netns.remove(path)


@pytest.fixture(
    params=["nft", "legacy", "nft, bridges filtered", "native", "native, bridges filtered"]
)
def town(request: pytest.FixtureRequest, lab: Lab, far: str, tmp_path: Path) -> Iterator[Town]:
    seen = "1" if "filtered" in request.param else "0"
    knob = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    with netns.inside(lab.home):
        if not knob.exists() and seen == "1":
            pytest.skip("no br_netfilter here")
        if knob.exists():
            knob.write_text(seen)
    peer = ("type", "veth", "peer", "name", "lan0", "netns", far)
    lab.run("ip", "link", "add", "lan0", *peer)
    lab.run("ip", "addr", "add", f"{LAN}/24", "dev", "lan0")
    lab.run("ip", "link", "set", "lan0", "up")
    lab.run("ip", "addr", "add", f"{FAR}/24", "dev", "lan0", at=far)
    lab.run("ip", "link", "set", "lan0", "up", at=far)
    for cidr in ("172.16.0.0/12", "127.0.0.0/8"):  # a neighbour who knows too much
        table = ("table", "100") if cidr.startswith("127") else ()
        lab.run("ip", "route", "add", cidr, "via", LAN, *table, at=far)
    variant = "legacy" if request.param == "legacy" else "nft"
    host, database, ports = lab.host(variant), Database(tmp_path / "db"), HomePorts(lab.home)
    with ReconcileQueue(host, ownership("0", lab.folder)) as worker:
        drivers = {"bridge": Bridge(), "host": HostDriver(), "null": Null()}
        firewall = Nftables() if "native" in request.param else Iptables()
        net = Controller(database, worker, drivers, firewall, engine="0", ports=ports,
                       settings=NetworkConfig())  # fmt: skip
        net.start()
        t = Town(lab, net, [], request.param.split(",")[0])
        yield t
        for s in t.listeners:
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()
        for e in net.endpoints():
            net.close(e.sandbox)
    database.close()


def test_the_matrix_of_access(town: Town) -> None:
    for name in ("one", "two"):
        town.net.create(NetworkSpec(name=name))
    web = town.open("web", "one", tcp(80, 8080), tcp(81, 8181, "127.0.0.1"), tcp(82, 8282, LAN))
    town.open("mate", "one")
    town.open("other", "two")
    for port in (80, 81, 82, 99):
        town.serve("web", port)
    town.serve("host", 7777, "127.0.0.1")
    town.serve("far", 80)
    bridge = "172.18.0.1"
    answers = {
        ("host", web, 80): f"web {bridge}",
        ("host", web, 99): f"web {bridge}",
        ("host", "127.0.0.1", 8080): f"web {bridge}",
        ("host", LAN, 8080): f"web {bridge}",
        ("host", "127.0.0.1", 8181): f"web {bridge}",
        ("host", LAN, 8282): f"web {bridge}",
        ("mate", web, 80): "web 172.18.0.3",
        ("mate", web, 99): "web 172.18.0.3",
        ("mate", bridge, 8080): f"web {bridge}",
        ("mate", LAN, 8080): f"web {bridge}",
        ("mate", LAN, 8282): f"web {bridge}",
        ("web", LAN, 8080): f"web {bridge}",  # itself, the long way
        ("other", LAN, 8080): f"web {bridge}",
        ("far", LAN, 8080): f"web {FAR}",
        ("far", LAN, 8282): f"web {FAR}",
        ("web", FAR, 80): f"far {LAN}",
        ("other", FAR, 80): f"far {LAN}",
        # and who must not
        ("other", web, 80): "",
        ("other", web, 99): "",
        ("far", web, 80): "",
        ("far", web, 99): "",
        ("far", LAN, 8181): "",
        ("host", LAN, 8181): "",
        ("host", "127.0.0.1", 8282): "",
        ("mate", bridge, 8181): "",
        ("mate", bridge, 7777): "",
    }
    assert town.asked(answers, LONGER) == answers


def test_loopback_of_the_host_is_out_of_reach_however_one_tries(town: Town) -> None:
    """With route_localnet on our bridge, only the guard in raw stands between."""
    town.net.create(NetworkSpec(name="one"))
    town.open("web", "one", tcp(81, 8181, "127.0.0.1"), tcp(80, 8080))
    town.serve("web", 80)
    town.serve("web", 81)
    town.serve("host", 7777, "127.0.0.1")
    for who, gateway in (("web", "172.18.0.1"), ("far", LAN)):
        dev = "eth0" if who == "web" else "lan0"
        at = town.ns(who)
        for name in ("all", dev):
            town.lab.run("sysctl", "-qw", f"net.ipv4.conf.{name}.route_localnet=1", at=at)
        town.lab.run("ip", "rule", "add", "pref", "1", "lookup", "local", at=at)
        town.lab.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo", at=at)
        town.lab.run("ip", "route", "add", "127.0.0.1/32", "via", gateway, "dev", dev, at=at)
    silence = {(who, "127.0.0.1", p): "" for who in ("web", "far") for p in (7777, 8181, 8080)}
    assert town.asked(silence) == silence
    assert town.dropped("raw", "PREROUTING", "guard") > 0  # packets did come, and were dropped here


def test_internal_networks_reach_nothing_outside(town: Town) -> None:
    town.net.create(NetworkSpec(name="one"))
    town.net.create(NetworkSpec(name="in", internal=True))
    web = town.open("web", "one", tcp(80, 8080))
    inner = town.open("inner", "in")
    town.open("inner2", "in")
    for who in ("web", "inner", "far"):
        town.serve(who, 80)
    at = town.ns("inner")
    town.lab.run("ip", "route", "add", "default", "via", "172.19.0.1", at=at)  # by its own means
    assert town.ask("inner2", inner, 80) == "inner 172.19.0.3"
    assert town.ask("host", inner, 80) == "inner 172.19.0.1"
    silence = dict.fromkeys((
        ("inner", FAR, 80), ("inner", web, 80), ("inner", LAN, 8080),
        ("web", inner, 80), ("far", inner, 80),
    ), "")  # fmt: skip
    assert town.asked(silence) == silence


def test_without_icc_only_published_ports_of_neighbours_are_reached(
    town: Town, request: pytest.FixtureRequest
) -> None:
    town.net.create(NetworkSpec(name="one", options={ICC: "false"}))
    web = town.open("web", "one", tcp(80, 8080))
    town.open("mate", "one")
    town.serve("web", 80)
    town.serve("far", 80)
    assert town.ask("mate", web, 80) == ""
    at = town.ns("mate")
    town.lab.run("ip", "route", "add", f"{web}/32", "via", "172.18.0.1", at=at)
    assert town.ask("mate", web, 80) == ""  # nor by a detour
    assert town.ask("mate", FAR, 80) == f"far {LAN}"
    assert town.ask("far", LAN, 8080) == f"web {FAR}"
    if "filtered" not in request.node.name:  # there, translated frames stay on the bridge
        assert town.ask("mate", LAN, 8080) == "web 172.18.0.1"


def test_a_routed_network_opens_its_ports_at_the_container(town: Town) -> None:
    town.net.create(NetworkSpec(name="one", options={MODE: "routed"}))
    web = town.open("web", "one", tcp(80, 8080))
    town.serve("web", 80)
    town.serve("web", 99)
    answers = {("far", web, 80): f"web {FAR}", ("far", web, 99): "", ("far", LAN, 8080): ""}
    assert town.asked(answers) == answers


def test_trusted_interfaces_and_unprotected_networks(town: Town) -> None:
    town.net.create(NetworkSpec(name="one", options={TRUSTED: "lan0"}))
    town.net.create(NetworkSpec(name="two", options={MODE: "nat-unprotected"}))
    one = town.open("web", "one", tcp(80, 8080))
    two = town.open("open", "two", tcp(80, 8081))
    for who in ("web", "open"):
        town.serve(who, 80)
        town.serve(who, 99)
    assert [town.ask("far", ip, p) for ip in (one, two) for p in (80, 99)] == [
        f"web {FAR}", "", f"open {FAR}", f"open {FAR}",
    ]  # fmt: skip
    assert town.ask("far", LAN, 8081) == f"open {FAR}"


def test_all_of_it_goes_again_and_docker_user_is_the_administrators(town: Town) -> None:
    tool = town.tool()
    for line in ("-N DOCKER-USER", "-I FORWARD -j DOCKER-USER") if town.backend == "native" else ():
        town.lab.run(tool, *line.split())
    town.lab.run(tool, "-A", "DOCKER-USER", "-s", "203.0.113.5", "-j", "DROP")
    before = (town.rules(), town.names())
    town.net.create(NetworkSpec(name="one"))
    town.open("web", "one", tcp(80, 8080), tcp(81, 8181, "127.0.0.1"), tcp(90, 90), tcp(91, 91))
    assert town.rules() != before[0]
    forward = [line for line in town.lab.run(tool, "-S", "FORWARD").splitlines() if "-A" in line]
    assert "DOCKER-USER" in forward[0]
    assert town.backend == "native" or "DOCKER-FORWARD" in forward[1]
    assert "-P FORWARD ACCEPT" in town.lab.run(tool, "-S", "FORWARD")
    for e in town.net.endpoints():
        town.net.close(e.sandbox)
    town.net.remove("one")
    assert (town.rules(), town.names()) == before


def test_what_the_administrator_drops_in_docker_user_is_dropped(town: Town) -> None:
    town.net.create(NetworkSpec(name="one"))
    town.open("web", "one", tcp(80, 8080))
    town.serve("web", 80)
    assert town.ask("far", LAN, 8080) == f"web {FAR}"
    if town.backend == "native":
        town.lab.run(town.tool(), "-N", "DOCKER-USER")
        town.lab.run(town.tool(), "-I", "FORWARD", "-j", "DOCKER-USER")
    town.lab.run(town.tool(), "-I", "DOCKER-USER", "-s", FAR, "-j", "DROP")
    assert town.ask("far", LAN, 8080) == ""
    assert town.ask("host", LAN, 8080) == "web 172.18.0.1"
