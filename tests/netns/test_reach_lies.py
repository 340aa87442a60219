"""Frames with forged source addresses arrive only where genuine ones would."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import pytest

from netkit.diagnose.explain.answer import Explanation, explain
from netkit.diagnose.explain.facts import Facts
from netkit.diagnose.explain.question import Question
from netkit.diagnose.explain.words import text
from netkit.network.access import AccessRule
from tests.netns.conftest import Lab
from tests.reach.frames import Frame, Sender, Taps
from tests.reach.great import FAR, LOOPBACK, OWN, SERVED, at, shown
from tests.reach.model import Forged, Probe, World, taken
from tests.reach.probe import GRACE, Round, Servers
from tests.reach.stage import Backend, backend, flush, great, wait
from tests.reach.town import LAN, Town, sandbox

__all__ = ["backend", "great"]  # fixtures
pytestmark = pytest.mark.root
A = IPv4Address


@dataclass(frozen=True)
class Lie:
    """A datagram with a source address that may be forged; names stand for their addresses."""

    who: str
    src: IPv4Address | str
    dst: IPv4Address | str
    port: int
    arrives: str = ""  # at whom

    def frame(self, w: World) -> Frame:
        return Frame(who=self.who, src=at(w, self.src), dst=at(w, self.dst), port=self.port)


LIES = (
    # a neighbour on the LAN
    Lie("far", FAR, LAN, OWN, "host"),  # the truth, for control
    Lie("far", FAR, LOOPBACK, OWN),
    Lie("far", FAR, LOOPBACK, 8153),
    Lie("far", FAR, LAN, 8053, "web"),
    Lie("far", LOOPBACK, LAN, OWN),
    Lie("far", LOOPBACK, LAN, 8053),
    Lie("far", LAN, LAN, OWN),
    Lie("far", "mate", "web", 80),
    Lie("far", "in1", "in2", 80),
    Lie("far", "iso1", "iso2", 80),
    Lie("far", "app", "db", 80),
    Lie("far", "way1", "way2", 80),
    Lie("far", "free", "free2", 80, "free2"),
    Lie("far", "both", LAN, 8053, "web"),
    # a container
    Lie("mate", "mate", "web", 80, "web"),  # the truth
    Lie("mate", LOOPBACK, A("172.20.1.1"), OWN),
    Lie("mate", "mate", LOOPBACK, OWN),
    Lie("mate", "mate", LOOPBACK, 8153),
    Lie("mate", "other", "other", 80),
    Lie("mate", FAR, "other", 80),
    Lie("mate", "other", A("172.20.2.4"), 80),
    Lie("in1", "in1", "web", 80),
    Lie("in1", "mate", "web", 80),
    Lie("in1", "in1", FAR, 80),
    Lie("in1", "in1", LAN, 8053),
    Lie("iso1", "iso1", "web", 80),
    Lie("iso1", "mate", FAR, 80),
    # The host has no address there, and cannot answer; but it receives what is sent to it.
    Lie("iso1", "iso1", LAN, OWN, "host"),
    Lie("al1", "al1", "al2", 80),
    Lie("al1", FAR, "al2", 80),
    Lie("al1", "al1", "web", 80),
    Lie("lone", "lone", "db", 80),
    Lie("lone", "app", "db", 80),
    Lie("app", "app", "db", 80, "db"),
    Lie("ia3", "ia3", "ia2", 80),
)


def asked(t: Town, facts: Facts, f: Frame) -> Explanation:
    far = f.who == "far"
    question = Question(
        source=f"lan:{f.src}@lan0" if far else f.who,
        target=str(f.dst),
        port=f.port,
        proto=f.proto,
        one_way=True,
        pose=str(f.src),
        mac="" if far else t.hardware(f.mac or f.who),
        forced=not far,
    )
    return explain(question, facts)


def test_crafted_frames_arrive_only_where_the_truth_would(great: Town) -> None:
    facts, sender = great.facts(), Sender(great)
    lies = {str(n).encode(): lie for n, lie in enumerate(LIES)}
    frames = {n: replace(lie.frame(great.world), sport=41000 + int(n)) for n, lie in lies.items()}
    with Servers(great.services(SERVED, OWN)) as servers:
        for n, f in frames.items():
            sender.send(f, payload=n)
        expected = {n: lie.arrives for n, lie in lies.items() if lie.arrives}
        wait(lambda: expected.keys() <= servers.received.keys())
        time.sleep(GRACE)
        received = dict(servers.received)
    for n, lie in lies.items():
        e = asked(great, facts, frames[n])
        assert received.get(n, "") == lie.arrives, f"{lie}\n{text(e)}"
        assert e.to == shown(great.world, lie.arrives), f"{lie}\n{text(e)}"


# -- neighbours that are kept apart -------------------------------------------------


def forgeries(w: World, *nets: str) -> Iterator[Forged]:
    """Yield frames between all pairs, also forged as each third: by IP, by MAC, by both."""
    for net in nets:
        names = [b.name for b in w.boxes.values() if net in b.homes]
        for who in names:
            for target in (n for n in names if n != who):
                for ip in (n for n in names if n != target):
                    for mac in {who, ip, *(n for n in names if n not in {who, target})}:
                        for proto in ("tcp", "udp"):
                            yield Forged(who=who, ip=ip, mac=mac, target=target, net=net, port=80,
                                         proto=proto)  # fmt: skip


def test_no_neighbour_is_taken_for_another(great: Town) -> None:
    w, facts, sender = great.world, great.facts(), Sender(great)
    every = {f"{n}".encode(): f for n, f in enumerate(forgeries(w, "apart", "inapart"))}
    frames = {
        n: Frame(who=f.who, src=at(w, f.ip), dst=at(w, f.target), port=f.port, proto=f.proto,
                 sport=20000 + int(n), mac=f.mac)
        for n, f in every.items()
    }  # fmt: skip
    fates = {n: taken(w, f) for n, f in every.items()}
    assert {f.server for f in fates.values()} == {"", "db", "ia2"}
    with Taps({f.target: (great.ns(f.target), "eth0") for f in every.values()}) as taps:
        for n, frame in frames.items():
            sender.send(frame, payload=n)
        due = [(fate.server, n) for n, fate in fates.items() if fate.server]
        wait(lambda: taps.saw(due))
        time.sleep(GRACE)
        # The last packet came through, so the rest would have: from the host, for control.
        control = {name: f"control {name}".encode() for name in taps.places}
        for name, payload in control.items():
            great.send_datagram(name, 80, payload)
        wait(lambda: taps.saw(control.items()))
    for n, f in every.items():
        e, seen = asked(great, facts, frames[n]), n in taps.seen[f.target]
        assert seen == bool(fates[n].server), f"{f}: {fates[n]}\n{text(e)}"
        assert e.to == shown(w, fates[n].server), f"{f}: {fates[n]}\n{text(e)}"
    assert all(payload in taps.seen[name] for name, payload in control.items())


def test_with_a_borrowed_mac_address_not_even_the_host_is_reached_and_no_flush_undoes_it(
    lab: Lab, great: Town, backend: Backend
) -> None:
    w, sender = great.world, Sender(great)
    places = {
        "host": (lab.home, great.bridge("lone")),
        "db": (great.ns("db"), "eth0"),
    }
    to_host = Frame(who="lone", src=at(w, "lone"), dst=w.nets["apart"].gateway, port=80)
    to_db = replace(to_host, dst=at(w, "db"))
    flush(lab, backend)
    with Taps(places) as taps:
        sender.send(replace(to_host, mac="app"), b"borrowed, to the host")
        sender.send(replace(to_db, mac="app", src=at(w, "app")), b"borrowed, to db")
        sender.send(to_host, b"own, to the host")
        sender.send(to_db, b"own, to db")  # without rules, there is a detour
        wait(lambda: taps.saw([("host", b"own, to the host"), ("db", b"own, to db")]))
        assert taps.seen["db"] == {b"own, to db"}
        assert {s for s in taps.seen["host"] if b"host" in s} == {b"own, to the host"}
    great.net.repair()


def test_a_forged_packet_does_not_pass_for_one_of_a_flow(great: Town) -> None:
    """A host that knows the ports of a flow could inject into it, in either direction."""
    w, sender = great.world, Sender(great)
    truth = Frame(who="app", src=at(w, "app"), dst=at(w, "db"), port=80)
    answer = Frame(who="lone", src=at(w, "db"), dst=at(w, "app"), port=truth.sport, sport=80)
    with (
        Servers(great.services(SERVED, OWN)) as servers,
        Taps({"app": (great.ns("app"), "eth0")}) as taps,
    ):
        sender.send(truth, b"1")
        wait(lambda: taps.saw([("app", b"db")]))  # what a server answers is its name
        sender.send(replace(truth, who="lone"), b"2")
        sender.send(answer, b"3")
        sender.send(replace(answer, who="db"), b"4")
        sender.send(truth, b"5")
        wait(lambda: b"5" in servers.received and taps.saw([("app", b"4")]))
        time.sleep(GRACE)
        taps.saw([])
        assert servers.received == {b"1": "db", b"5": "db"}
        assert taps.seen["app"] == {b"db", b"4"}


def test_no_container_answers_arp_for_a_neighbour(lab: Lab, great: Town) -> None:
    """Where containers reach each other it is as on any Ethernet: ARP answers are not verified."""
    w, sender = great.world, Sender(great)
    believed = {"mate": "web", "lone": "db"}  # who says that it has whose address

    def insisted() -> bool:
        """Repeated until one is accepted: an entry just learned is locked for a second."""
        for liar, victim in believed.items():
            sender.claim(liar, at(w, victim))
        return known(lab, at(w, "web")) == great.hardware("mate")

    with Taps({n: (great.ns(n), "eth0") for pair in believed.items() for n in pair}) as taps:
        for victim in believed.values():
            great.send_datagram(victim, 80, f"before {victim}".encode())
        wait(lambda: taps.saw([(n, f"before {n}".encode()) for n in believed.values()]))
        wait(insisted)
        for victim in believed.values():
            great.send_datagram(victim, 80, f"after {victim}".encode())
        wait(lambda: taps.saw([("mate", b"after web"), ("db", b"after db")]))
    assert known(lab, at(w, "db")) == great.hardware("db")
    assert b"after web" in taps.seen["mate"]
    assert b"after db" in taps.seen["db"]
    assert taps.seen["lone"] == set()


def known(lab: Lab, address: IPv4Address) -> str:
    """Return the MAC address that the host sends to."""
    (entry,) = json.loads(lab.run("ip", "-j", "neigh", "show", "to", str(address)))
    return str(entry.get("lladdr"))


def test_accepting_a_container_by_name_does_not_let_in_its_neighbours(great: Town) -> None:
    """`netkit fw accept --src lone --to db`: lone's packets are answered, on any port."""
    w, sender = great.world, Sender(great)
    lone, db = (sandbox(great, name).id for name in ("lone", "db"))
    great.net.add_access_rule(AccessRule(verdict="accept", target=db, source=lone))
    facts = great.facts()
    truth = Frame(who="lone", src=at(w, "lone"), dst=at(w, "db"), port=99)
    lies = [replace(truth, who="app"), replace(truth, who="app", mac="lone")]
    probe = Probe(who="lone", dst=at(w, "db"), port=99)
    with Servers(great.services(SERVED, OWN)):
        assert Round(great.places()).run([probe], [probe]) == {probe: "db"}
    with Taps({"db": (great.ns("db"), "eth0")}) as taps:
        for n, frame in enumerate((*lies, truth)):
            sender.send(replace(frame, sport=42000 + n), str(n).encode())
        wait(lambda: taps.saw([("db", b"2")]))
        time.sleep(GRACE)
        taps.saw([])
        assert taps.seen["db"] == {b"2"}
    assert asked(great, facts, truth).to == "container db"
    assert [asked(great, facts, lie).verdict for lie in lies] == ["dropped"] * 2


def test_ports_that_an_older_netkit_made_are_locked_at_the_next_start(
    lab: Lab, great: Town
) -> None:
    w, sender = great.world, Sender(great)
    frame = Frame(who="lone", src=at(w, "lone"), dst=w.nets["apart"].gateway, port=80, mac="app")
    for who in ("db", "app", "lone"):
        port, mac = great.port(who), great.hardware(who)
        lab.run("bridge", "fdb", "del", mac, "dev", port, "master")
        lab.run("bridge", "link", "set", "dev", port, "locked", "off")
    with Taps({"host": (lab.home, great.bridge("lone"))}) as taps:
        sender.send(frame, b"open")
        wait(lambda: taps.saw([("host", b"open")]))
        great.restart()
        sender.send(frame, b"locked")
        sender.send(replace(frame, mac="lone"), b"own")
        wait(lambda: taps.saw([("host", b"own")]))
        assert taps.seen["host"] >= {b"open", b"own"}
        assert b"locked" not in taps.seen["host"]


# -- foreign flows --------------------------------------------------------------------


def test_an_internal_network_does_not_join_flows_of_other_networks(great: Town) -> None:
    """A host that knows a flow could inject into it: a way out for a cooperating container."""
    w, sender = great.world, Sender(great)
    truth = Frame(who="mate", src=at(w, "mate"), dst=at(w, "web"), port=80)
    with Servers(great.services(SERVED, OWN)) as servers:
        sender.send(truth, b"1")
        wait(lambda: b"1" in servers.received)
        time.sleep(GRACE)  # until it is answered, hence established
        sender.send(replace(truth, who="in1"), b"2")  # the same ports
        sender.send(truth, b"3")
        wait(lambda: b"3" in servers.received)
        time.sleep(GRACE)
        assert servers.received == {b"1": "web", b"3": "web"}
