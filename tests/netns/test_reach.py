"""Everybody against everybody: the model, real packets and `fw explain` must say the same.

A refusal only counts because, in the same round, the same server answered somebody else.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netkit.driver import Firewall
from netkit.explain.answer import Explanation, explain
from netkit.explain.facts import Facts
from netkit.explain.question import Question
from netkit.explain.words import text
from netkit.guard import Guard
from netkit.kernel import netns
from netkit.kernel.iptables import Variant
from netkit.kernel.rulewatch import RuleWatch
from plugins.firewall import Iptables
from plugins.firewall.nftables import Nftables
from tests.netns.conftest import Lab
from tests.reach.model import Box, Fate, Link, Net, Port, Probe, Rule, World, predict
from tests.reach.probe import GRACE, PATIENCE, Round, Servers
from tests.reach.town import LAN, Town, town

pytestmark = pytest.mark.root

A = IPv4Address
FAR, NEAR = A("198.51.100.9"), A("198.51.100.10")
LOOPBACK = A("127.0.0.1")
SERVED = (("tcp", 80), ("tcp", 99), ("udp", 80))  # by every container and neighbour
OWN = 7777  # the host's own service


def net(name: str, number: int, **more: object) -> Net:
    return Net(name=name, cidr=IPv4Network(f"172.20.{number}.0/24"), **more)  # type: ignore[arg-type]


def the_world(*, filtered: bool) -> World:
    nets = (
        net("one", 1), net("two", 2), net("apart", 3, icc=False), net("in", 4, mode="internal"),
        net("inapart", 5, mode="internal", icc=False), net("iso", 6, mode="isolated"),
        net("way", 7, mode="routed"), net("open", 8, mode="nat-unprotected"),
        net("alone", 9, icc=False),
    )  # fmt: skip
    homes: dict[str, dict[str, int]] = {
        "web": {"one": 2}, "mate": {"one": 3}, "both": {"one": 4, "two": 4}, "other": {"two": 2},
        "db": {"apart": 2}, "app": {"apart": 3}, "lone": {"apart": 4},
        "in1": {"in": 2}, "in2": {"in": 3}, "mixed": {"in": 4, "way": 4},
        "ia1": {"inapart": 2}, "ia2": {"inapart": 3}, "ia3": {"inapart": 4},
        "iso1": {"iso": 2}, "iso2": {"iso": 3},
        "way1": {"way": 2}, "way2": {"way": 3}, "free": {"open": 2}, "free2": {"open": 3},
        "al1": {"alone": 2}, "al2": {"alone": 3},
    }  # fmt: skip
    by_name = {
        n.name: n if n.icc else Net(name=n.name, cidr=n.cidr, mode=n.mode, icc=False,
                                    filtered=filtered)
        for n in nets
    }  # fmt: skip
    boxes = [
        Box(
            name=name,
            homes={n: by_name[n].cidr[last] for n, last in where.items()},
            default=next((n for n in where if not by_name[n].closed), ""),
        )
        for name, where in homes.items()
    ]
    return World(
        host=(LAN, *(n.gateway for n in nets if n.mode != "isolated")),
        nets=by_name,
        boxes={b.name: b for b in boxes},
        ports=(
            Port(box="web", net="one", inside=80, outside=8080),
            Port(box="web", net="one", inside=80, outside=8053, proto="udp"),
            Port(box="web", net="one", inside=80, outside=8181, ip=LOOPBACK),
            Port(box="web", net="one", inside=80, outside=8153, ip=LOOPBACK, proto="udp"),
            Port(box="web", net="one", inside=99, outside=8282, ip=LAN),
            Port(box="both", net="one", inside=80, outside=8383),
            Port(box="db", net="apart", inside=80, outside=8484),
            Port(box="way1", net="way", inside=80, outside=0),
            Port(box="free", net="open", inside=80, outside=8585),
            Port(box="other", net="two", inside=99, outside=8686),
            Port(box="al1", net="alone", inside=80, outside=8787),
        ),
        links=(
            Link(parent="app", child="db", net="apart", port=80),
            Link(parent="app", child="db", net="apart", port=80, proto="udp"),
            Link(parent="ia1", child="ia2", net="inapart", port=80),
        ),
        rules=(
            Rule(box="web", verdict="drop", source=IPv4Network(NEAR), proto="tcp",
                 first=8080, last=8080, published=True),
            Rule(box="mate", verdict="accept", source=IPv4Network(FAR), proto="tcp",
                 first=90, last=99),
            Rule(box="free", verdict="accept", source=IPv4Network("172.20.2.2/32")),
            Rule(box="free", verdict="drop", source=IPv4Network("172.20.2.0/24")),
            Rule(box="other", verdict="drop", source=IPv4Network(FAR)),
            # More sources than are a rule each: an address set.
            Rule(box="both", verdict="drop", source=IPv4Network(NEAR),
                 more=tuple(IPv4Network(f"192.0.2.{n}/32") for n in range(1, 40, 2))),
            Rule(box="in2", verdict="drop", source=IPv4Network("172.20.4.2/32"), proto="tcp",
                 first=80, last=80),
            Rule(box="way2", verdict="drop", source=IPv4Network("172.20.7.2/32")),
        ),
        outside={FAR: "far", NEAR: "near"},
    )  # fmt: skip


def probes(w: World) -> Iterator[Probe]:
    published = sorted({(p.proto, p.outside) for p in w.ports if p.outside})
    inside = [a for b in w.boxes.values() for a in b.homes.values()]
    for who in ("host", *map(str, w.outside), *w.boxes):
        for dst in (*inside, *w.outside):
            for proto, port in SERVED:
                yield Probe(who=who, dst=dst, port=port, proto=proto)
        for dst in w.host:
            for proto, port in (*published, ("tcp", OWN)):
                yield Probe(who=who, dst=dst, port=port, proto=proto)
    for proto, port in (*published, ("tcp", OWN)):
        yield Probe(who="host", dst=LOOPBACK, port=port, proto=proto)


def question_of(p: Probe) -> Question:
    source = p.who if p.who[0].isalpha() else f"lan:{p.who}@lan0"
    return Question(source=source, target=str(p.dst), port=p.port, proto=p.proto)


def told(w: World, facts: Facts, every: Iterable[Probe]) -> dict[Probe, Explanation]:
    return {p: explain(question_of(p), facts) for p in every}


@dataclass
class Outcome:
    world: World
    fates: Mapping[Probe, Fate]
    heard: Mapping[Probe, str]
    said: Mapping[Probe, Explanation]

    @property
    def wrong(self) -> list[str]:
        """Where the three disagree, in words that help."""
        out = []
        for p, fate in self.fates.items():
            e = self.said[p]
            if self.heard[p] != (fate.server if listens(fate, p) else ""):
                out.append(f"{p}: the model says {fate}, real packets {self.heard[p]!r}\n{text(e)}")
            elif e.verdict != "undetermined" and e.to != shown(self.world, fate.server):
                out.append(f"{p}: all say {fate}, but explain\n{text(e)}")
        return out

    @property
    def unproved(self) -> list[str]:
        """Refusals by servers that were silent to everybody else as well."""
        answered = {
            target(self.world, p) for p, who in self.heard.items() if who not in {"", p.who}
        }
        refused = [p for p, f in self.fates.items() if not f.server]
        aims = {p: target(self.world, p) for p in refused}
        return [str(p) for p, aim in aims.items() if aim and aim not in answered]


def target(w: World, p: Probe) -> tuple[str, str, int] | None:
    """Which server a probe is meant for, wherever it ends; None if there is none."""
    for box in w.boxes.values():
        if p.dst in box.homes.values():
            return (box.name, p.proto, p.port) if (p.proto, p.port) in SERVED else None
    if p.dst in w.outside:
        return (w.outside[p.dst], p.proto, p.port)
    meant = (o for o in w.ports if (o.proto, o.outside) == (p.proto, p.port))
    port = next(meant, None)
    return (port.box, p.proto, port.inside) if port else ("host", p.proto, p.port)


def shown(w: World, who: str) -> str:
    """As an explanation names who gets a packet."""
    if who in w.boxes:
        return f"container {who}"
    return {"": "", "host": "the host"}.get(who, "the outside by lan0")


def listens(fate: Fate, p: Probe) -> bool:
    return p.port == OWN if fate.server == "host" else (p.proto, fate.port) in SERVED


def one_round(t: Town) -> Outcome:
    every = list(dict.fromkeys(probes(t.world)))
    fates = {p: predict(t.world, p) for p in every}
    with Servers(t.services(SERVED, OWN)):
        expected = [p for p, f in fates.items() if f.server and listens(f, p)]
        heard = Round(t.places()).run(every, expected)
    return Outcome(t.world, fates, heard, told(t.world, t.facts(), every))


@dataclass(frozen=True)
class Backend:
    variant: Variant  # of iptables, which Docker's chains or the administrator's are in
    firewall: Firewall
    native: bool = False


@pytest.fixture(params=["iptables-nft", "iptables-legacy", "nftables"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "nftables":
        return Backend("nft", Nftables(), native=True)
    return Backend("legacy" if request.param == "iptables-legacy" else "nft", Iptables())


@pytest.mark.parametrize("filtered", [False, True], ids=["own", "all"])
def test_model_packets_and_explanations_agree(
    lab: Lab, tmp_path: Path, backend: Backend, filtered: bool
) -> None:
    """`all`: br_netfilter is on for every bridge of the host, not only for those that need it."""
    w = the_world(filtered=filtered)
    kernel = lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=filtered) as t:
        check(one_round(t))


def test_they_agree_after_a_restart_and_after_a_flush(
    lab: Lab, tmp_path: Path, backend: Backend
) -> None:
    w = the_world(filtered=False)
    kernel = lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=False) as t:
        before = t.net.endpoints()
        t.restart()
        assert t.net.endpoints() == before
        check(one_round(t))
        flush(lab, backend)
        flushed = t.facts()
        assert not flushed.rules.hooked or not any(c.rules for c in flushed.rules.chains.values())
        t.restart()
        check(one_round(t))


def test_explanations_name_the_access_rule_that_decides(
    lab: Lab, tmp_path: Path, backend: Backend
) -> None:
    w = the_world(filtered=False)
    kernel = lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=False) as t:
        ids = [r.id for r in t.net.access()]
        asked = {
            (str(NEAR), LAN, 8080): ids[0],
            (str(FAR), at(w, "mate"), 99): ids[1],
            ("other", at(w, "free"), 80): ids[2],
            (str(FAR), at(w, "other"), 80): ids[4],
            (str(NEAR), LAN, 8383): ids[5],  # by a set
            (str(FAR), LAN, 8383): "",  # by what is published
            (str(FAR), at(w, "web"), 80): "",
        }
        facts = t.facts()
        said = {
            key: explain(question_of(Probe(who=key[0], dst=key[1], port=key[2])), facts)
            for key in asked
        }
        assert {k: e.rule.access if e.rule else None for k, e in said.items()} == asked
        assert f" {ids[0]} (ours, for container web on network one)" in text(
            said[str(NEAR), LAN, 8080]
        )


def test_they_agree_again_once_the_guard_has_seen_a_flush(
    lab: Lab, tmp_path: Path, backend: Backend
) -> None:
    w = the_world(filtered=False)
    kernel = lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=False) as t:
        legacy = backend.variant == "legacy"
        guard = Guard(t.net, RuleWatch(lab.home, legacy=legacy))
        guard.start()
        try:
            for _ in range(3):
                steps = guard.tally.steps
                flush(lab, backend)
                wait(lambda steps=steps: guard.tally.steps > steps)  # type: ignore[misc]
                wait(lambda: not t.net.drift())
                assert (t.net.drift(), guard.tally.error) == ((), "")
            check(one_round(t))
        finally:
            guard.close()


def test_what_bridge_ports_keep_apart_stays_apart_without_any_rule(
    lab: Lab, tmp_path: Path, backend: Backend
) -> None:
    w = the_world(filtered=False)
    kernel = lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=False) as t:
        flush(lab, backend)
        open_, apart = (
            [Probe(who=a, dst=at(w, b), port=80), Probe(who=b, dst=at(w, a), port=80)]
            for a, b in (("web", "mate"), ("al1", "al2"))
        )
        with Servers(t.services(SERVED, OWN)):
            # By the host, to show that they do serve.
            control = [Probe(who="host", dst=at(w, b), port=80) for b in ("al1", "al2")]
            heard = Round(t.places()).run([*open_, *apart, *control], [*open_, *control])
        assert [heard[p] for p in open_] == ["mate", "web"]
        assert [heard[p] for p in control] == ["al1", "al2"]
        assert [heard[p] for p in apart] == ["", ""]
        t.net.repair()


def flush(lab: Lab, backend: Backend) -> None:
    """As another tool would."""
    if backend.native:
        lab.run("nft", "flush", "ruleset")
        return
    for table in ("filter", "nat", "raw"):
        for way in ("-F", "-X"):
            lab.run(f"iptables-{backend.variant}", "-t", table, way)


def check(outcome: Outcome) -> None:
    wrong = outcome.wrong
    assert not wrong, "\n\n".join(wrong[:12]) + f"\n{len(wrong)} in all"
    assert not outcome.unproved
    undetermined = [e for e in outcome.said.values() if e.verdict == "undetermined"]
    assert len(undetermined) < len(outcome.said) / 100


@dataclass(frozen=True)
class Frame:
    """A datagram as only a liar sends it: from `who`, by way of the host, with any addresses."""

    who: str
    src: IPv4Address | str
    dst: IPv4Address | str
    port: int
    arrives: str = ""  # at whom


LIES = (
    # a neighbour on the LAN
    Frame("far", FAR, LAN, OWN, "host"),  # the truth, for control
    Frame("far", FAR, LOOPBACK, OWN),
    Frame("far", FAR, LOOPBACK, 8153),
    Frame("far", FAR, LAN, 8053, "web"),
    Frame("far", LOOPBACK, LAN, OWN),
    Frame("far", LOOPBACK, LAN, 8053),
    Frame("far", LAN, LAN, OWN),
    Frame("far", "mate", "web", 80),
    Frame("far", "in1", "in2", 80),
    Frame("far", "iso1", "iso2", 80),
    Frame("far", "app", "db", 80),
    Frame("far", "way1", "way2", 80),
    Frame("far", "free", "free2", 80, "free2"),
    Frame("far", "both", LAN, 8053, "web"),
    # a container
    Frame("mate", "mate", "web", 80, "web"),  # the truth
    Frame("mate", LOOPBACK, A("172.20.1.1"), OWN),
    Frame("mate", "mate", LOOPBACK, OWN),
    Frame("mate", "mate", LOOPBACK, 8153),
    Frame("mate", "other", "other", 80),
    Frame("mate", FAR, "other", 80),
    Frame("mate", "other", A("172.20.2.4"), 80),
    Frame("in1", "in1", "web", 80),
    Frame("in1", "mate", "web", 80),
    Frame("in1", "in1", FAR, 80),
    Frame("in1", "in1", LAN, 8053),
    Frame("iso1", "iso1", "web", 80),
    Frame("iso1", "mate", FAR, 80),
    # The host has no address there, and cannot answer; but what it is told, it hears.
    Frame("iso1", "iso1", LAN, OWN, "host"),
    Frame("al1", "al1", "al2", 80),
    Frame("al1", FAR, "al2", 80),
    Frame("al1", "al1", "web", 80),
    Frame("lone", "lone", "db", 80),
    # Neighbours are told apart by address: who poses as the linked one is heard, as with Docker,
    # but never gets the answer.
    Frame("lone", "app", "db", 80, "db"),
    Frame("app", "app", "db", 80, "db"),
    Frame("ia3", "ia3", "ia2", 80),
)


def test_crafted_frames_arrive_only_where_the_truth_would(
    lab: Lab, tmp_path: Path, backend: Backend
) -> None:
    w = the_world(filtered=False)
    kernel = lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=False) as t:
        facts = t.facts()
        lies = [replace(f, src=at(w, f.src), dst=at(w, f.dst)) for f in LIES]
        with Servers(t.services(SERVED, OWN)) as servers:
            for n, f in enumerate(lies):
                send(t, f, payload=str(n).encode())
            expected = {str(n).encode(): f.arrives for n, f in enumerate(lies) if f.arrives}
            wait(lambda: expected.keys() <= servers.heard.keys())
            time.sleep(GRACE)
            heard = dict(servers.heard)
        for n, f in enumerate(lies):
            e = explain(question_of_lie(f), facts)
            assert heard.get(str(n).encode(), "") == f.arrives, f"{f}\n{text(e)}"
            assert e.to == shown(w, f.arrives), f"{f}\n{text(e)}"


def test_an_internal_network_does_not_join_the_flows_of_others(
    lab: Lab, tmp_path: Path, backend: Backend
) -> None:
    """Who knows a flow between others could write into it: a way out for who is in league."""
    w = the_world(filtered=False)
    kernel = lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=False) as t:
        truth = Frame("mate", at(w, "mate"), at(w, "web"), 80)
        with Servers(t.services(SERVED, OWN)) as servers:
            send(t, truth, b"1")
            wait(lambda: b"1" in servers.heard)
            time.sleep(GRACE)  # until it is answered, hence established
            send(t, replace(truth, who="in1"), b"01")  # the same ports
            send(t, truth, b"001")
            wait(lambda: b"001" in servers.heard)
            time.sleep(GRACE)
            assert servers.heard == {b"1": "web", b"001": "web"}


def at(w: World, who: IPv4Address | str) -> IPv4Address:
    return next(iter(w.boxes[who].homes.values())) if isinstance(who, str) else who


def question_of_lie(f: Frame) -> Question:
    source = f"lan:{f.src}@lan0" if f.who == "far" else f.who
    return Question(source=source, target=str(f.dst), port=f.port, proto="udp", one_way=True,
                    pose=str(f.src), forced=f.who != "far")  # fmt: skip


def send(t: Town, f: Frame, payload: bytes) -> None:
    """To the MAC address of the host on that wire; a flow of its own each."""
    dev, here = ("lan0", "lan0") if f.who == "far" else ("eth0", t.bridge(f.who))
    mac = t.mac(here)
    frame = Ether(dst=mac, src="02:00:00:00:00:01") / IP(src=str(f.src), dst=str(f.dst))
    frame /= UDP(sport=40000 + int(payload), dport=f.port) / Raw(payload)
    with netns.inside(t.ns(f.who)):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sock:
        sock.bind((dev, 0))
        sock.send(bytes(frame))


def wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
