"""Access rules, links, ranges and repair on native nftables, packet by packet."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.network.access import AccessRule
from netkit.network.controller import Controller
from netkit.spec import LinkedPorts, NetworkSpec, PortSpec, Sandbox
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from plugins.host import Host as HostDriver
from plugins.none import Null
from tests.netns.test_firewall import FAR, ICC, LAN, SHORT, Town, far, tcp, town

__all__ = ["far", "town"]  # fixtures
pytestmark = [
    pytest.mark.root,
    pytest.mark.parametrize("town", ["native", "native, bridges filtered"], indirect=True),
]


def sandbox(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def drop(target: str, *sources: str, **more: object) -> AccessRule:
    return AccessRule(verdict="drop", target=sandbox(target), sources=sources, **more)  # type: ignore[arg-type]


def accept(target: str, *sources: str, **more: object) -> AccessRule:
    return AccessRule(verdict="accept", target=sandbox(target), sources=sources, **more)  # type: ignore[arg-type]


def ranged(inside: int, host: int, count: int, ip: str = "") -> list[PortSpec]:
    return [tcp(inside + n, host + n, ip) for n in range(count)]


@pytest.fixture
def talk(town: Town) -> Iterator[socket.socket]:
    """A connection from far to port 8080 that stays open and is echoed byte by byte."""
    town.net.create(NetworkSpec(name="one"))
    town.open("web", "one", tcp(80, 8080), tcp(81, 8181))
    with netns.inside(town.ns("web")):
        server = socket.create_server(("0.0.0.0", 80))
    town.listeners.append(server)

    def answer() -> None:
        with suppress(OSError):
            peer, _ = server.accept()
            with peer:
                while letter := peer.recv(1):
                    peer.sendall(letter)

    threading.Thread(target=answer, daemon=True).start()
    with netns.inside(town.ns("far")):
        client = socket.create_connection((LAN, 8080), SHORT)
    with client:
        yield client


def echoes(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
        return client.recv(1) == b"x"
    except TimeoutError:
        return False


def test_what_is_dropped_goes_silent_though_it_was_established(
    town: Town, talk: socket.socket
) -> None:
    assert echoes(talk)
    rule = town.net.add_access_rule(drop("web", f"{FAR}/32", proto="tcp", first=8080, last=8080,
                               published=True))  # fmt: skip
    assert not echoes(talk)
    town.net.remove_access_rule(rule.id)
    talk.settimeout(5)  # TCP sends again what was lost
    assert talk.recv(1) == b"x"


def test_access_rules_in_their_order(town: Town) -> None:
    town.net.create(NetworkSpec(name="one"))
    web = town.open("web", "one", tcp(80, 8080), tcp(81, 8181))
    town.open("mate", "one")
    for port in (80, 81):
        town.serve("web", port)

    def reached() -> list[bool]:
        return [bool(a) for a in town.asked(("far", LAN, p) for p in (8080, 8181)).values()]

    assert reached() == [True, True]
    port = {"proto": "tcp", "first": 8080, "last": 8080, "published": True}
    one = town.net.add_access_rule(drop("web", "198.51.100.0/24", **port))
    assert reached() == [False, True]
    assert town.ask("host", LAN, 8080) != ""  # who is on the host itself is not kept out
    two = town.net.add_access_rule(accept("web", f"{FAR}/32"), first=True)
    assert reached() == [True, True]
    assert town.ask("far", web, 80) == f"web {FAR}"  # and straight at its address
    town.net.remove_access_rule(two.id)
    assert town.ask("far", web, 80) == ""
    assert reached() == [False, True]
    town.net.remove_access_rule(one.id)
    third = town.net.add_access_rule(drop("web", "198.51.100.0/25", "203.0.113.7", proto="tcp",
                                first=81, last=90))  # fmt: skip
    assert reached() == [True, False]
    town.net.remove_access_rule(third.id)
    assert reached() == [True, True]
    assert "access-" not in town.lab.run("nft", "list", "chains")


def test_rules_bind_neighbours_on_a_bridge_too(town: Town) -> None:
    town.net.create(NetworkSpec(name="one"))
    town.net.create(NetworkSpec(name="in", internal=True))
    for name, where, mate in (("web", "one", "mate"), ("inner", "in", "inner2")):
        address = town.open(name, where)
        town.open(mate, where)
        town.serve(name, 80)
        assert town.ask(mate, address, 80) != ""
        town.net.add_access_rule(
            AccessRule(verdict="drop", target=sandbox(name), source=sandbox(mate))
        )
        assert town.ask(mate, address, 80) == ""
        town.net.add_access_rule(accept(name, "0.0.0.0/0"), first=True)
        assert town.ask(mate, address, 80) != ""
    silence = {("far", address, 80): "", ("web", address, 80): ""}
    assert town.asked(silence) == silence  # internal stays internal


@pytest.mark.parametrize("internal", [False, True])
def test_links_open_exactly_their_ports_where_icc_is_off(town: Town, internal: bool) -> None:
    town.net.create(NetworkSpec(name="one", options={ICC: "false"}, internal=internal))
    net = town.net.find("one").id
    town.open("parent", "one")
    child = town.open("child", "one")
    town.open("stranger", "one")
    for port in (80, 81):
        town.serve("child", port)
    asks = [("parent", child, 80), ("parent", child, 81), ("stranger", child, 80)]

    def reached() -> list[bool]:
        return [bool(answer) for answer in town.asked(asks).values()]

    assert reached() == [False, False, False]
    opening = LinkedPorts(sandbox=sandbox("child"), ports=(("tcp", 80),))
    town.net.set_linked_ports(sandbox("parent"), net, [opening])
    assert any(town.ask("parent", child, 80) for _ in range(10))  # once the host has answered ARP
    assert reached() == [True, False, False]
    town.net.set_linked_ports(sandbox("parent"), net, [])
    assert reached() == [False, False, False]


def test_not_one_packet_leaves_an_internal_network_or_enters_it(town: Town) -> None:
    """A datagram needs no answer, so dropping answers does not stop it."""
    town.net.create(NetworkSpec(name="in", internal=True))
    town.net.create(NetworkSpec(name="one"))
    inner, web = town.open("inner", "in"), town.open("web", "one")
    at = town.ns("inner")
    town.lab.run("ip", "route", "add", "default", "via", "172.18.0.1", at=at)  # by its own means
    for who, to, ip, arrives in (
        ("web", "far", FAR, True),
        ("inner", "far", FAR, False),
        ("inner", "web", web, False),
        ("web", "inner", inner, False),
        ("far", "inner", inner, False),
        ("host", "inner", inner, True),
    ):
        assert arrives_at(town, who, to, ip) == arrives, (who, to)


def arrives_at(town: Town, who: str, to: str, ip: str) -> bool:
    """Return whether a datagram arrives."""
    with netns.inside(town.ns(to)):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with netns.inside(town.ns(who)):
        mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ear, mouth:
        ear.bind((ip, 5000))
        ear.settimeout(SHORT)
        mouth.sendto(b"x", (ip, 5000))
        with suppress(TimeoutError):
            return ear.recv(9) == b"x"
    return False


def test_ranges_lead_to_the_right_ports(town: Town) -> None:
    town.net.create(NetworkSpec(name="one"))
    ports = [*ranged(9000, 9000, 50), *ranged(70, 7000, 5), *ranged(9100, 9100, 3, LAN)]
    town.open("web", "one", *ports)
    for inside in (9000, 9049, 9050, 72, 9101):
        town.serve("web", inside)
    answers = {9000: True, 9049: True, 9050: False, 7002: True, 72: False, 9101: True}
    for who, ip, due in (("far", LAN, answers), ("host", "127.0.0.1", answers | {9101: False})):
        got = town.asked((who, ip, p) for p in answers)
        assert {p: bool(answer) for (_, _, p), answer in got.items()} == due
    spans = town.lab.run("nft", "list", "map", "ip", "netkit", "port-ranges")
    assert spans.count("172.18.0.2") == 2  # one element a range


DAMAGE = [
    "flush ruleset",
    "flush table ip netkit",
    "flush chain ip netkit forward",
    "flush map ip netkit port-ranges",
    "delete element ip netkit ports-any { tcp . 8080 }",
    'delete element ip netkit into { "br-DEV" }',
    "insert rule ip netkit forward accept",
    'insert rule ip netkit into-nat accept\nadd element ip netkit closed { "br-DEV" }\n'
    'add map ip netkit mine { type ifname : verdict; elements = { "lo" : goto into-nat }; }',
    'add element ip netkit open { 172.18.0.2 . tcp . 22 comment "netkit:0:aaaaaaaaaaaa:bb" }',
    "add chain ip netkit forward { policy drop; }",
]


@pytest.mark.parametrize("line", DAMAGE)
def test_what_other_tools_change_is_repaired(town: Town, line: str) -> None:
    town.net.create(NetworkSpec(name="one"))
    town.open("web", "one", tcp(80, 8080), *ranged(9000, 9000, 3))
    town.net.add_access_rule(drop("web", "203.0.113.9"))
    whole = town.lab.run("nft", "-s", "list", "ruleset").split()
    assert town.net.drift() == ()
    (dev,) = (name for name in town.names() if name.startswith("br-"))
    words = line.replace("br-DEV", dev)
    town.lab.run("nft", "-f", "-", text=words + "\n")
    assert town.net.drift() != ()
    assert town.net.repair()[0] != ()
    now = town.lab.run("nft", "-s", "list", "ruleset").split()
    assert sorted(now) == sorted(whole)
    assert town.net.drift() == ()


def test_what_another_back_end_left_goes_when_it_is_changed(town: Town) -> None:
    """As by two restarts of the daemon, under a container that lives."""
    town.net.create(NetworkSpec(name="one"))
    web = town.open("web", "one", tcp(80, 8080), *ranged(9000, 9000, 3))
    town.serve("web", 80)
    parts = town.net._parts
    live = {sandbox("web"): Sandbox(id=sandbox("web"), name="web", ns=town.ns("web"))}
    native = town.lab.run("nft", "-s", "list", "table", "ip", "netkit").split()
    for firewall in (Iptables(), Nftables()):
        net = Controller(
            parts.database,
            parts.converger,
            {"bridge": Bridge(), "host": HostDriver(), "null": Null()},
            firewall,
            engine="0",
            ports=parts.ports,
        )
        net.restore(live)
        assert town.ask("far", LAN, 8080) == f"web {FAR}"
        assert town.ask("far", web, 80) == ""
        saved, tables = town.lab.run("iptables-nft-save"), town.lab.run("nft", "list", "tables")
        one = isinstance(firewall, Iptables)
        assert ("netkit:" in saved, "table ip netkit" in tables) == (one, not one)
    again = town.lab.run("nft", "-s", "list", "table", "ip", "netkit").split()
    assert sorted(again) == sorted(native)


def test_a_failure_names_the_line_and_leaves_the_table_as_it_was(town: Town) -> None:
    town.net.create(NetworkSpec(name="one"))
    at = 'tcp . 8080 comment "netkit:9:bbbbbbbbbbbb"'  # of another engine
    text = f"add element ip netkit ports-any {{ {at} : 192.0.2.1 . 1 }}\n"
    town.lab.run("nft", "-f", "-", text=text)
    before = town.lab.run("nft", "list", "ruleset")
    with pytest.raises(Exception, match="8080") as e:
        town.open("web", "one", tcp(80, 8080), tcp(81, 8181))
    assert not isinstance(e.value, KernelError)  # seen before anything was done
    assert town.lab.run("nft", "list", "ruleset") == before
