"""All pairs of senders and targets: the model, real packets and `fw explain` must agree.

A refusal only counts if the same server answered another client in the same round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from netkit.diagnose.explain.answer import Explanation, explain
from netkit.diagnose.explain.facts import Facts
from netkit.diagnose.explain.question import Question
from netkit.diagnose.explain.words import text
from netkit.kernel.firewall.watch import RuleWatch
from netkit.reconcile.resync import ResyncLoop
from tests.netns.conftest import Lab
from tests.reach.great import FAR, LOOPBACK, NEAR, OWN, SERVED, at, shown, the_world
from tests.reach.model import Fate, Probe, World, predict
from tests.reach.probe import Round, Servers
from tests.reach.stage import Backend, backend, flush, great, wait
from tests.reach.town import LAN, Town, town

__all__ = ["backend", "great"]  # fixtures
pytestmark = pytest.mark.root


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


def explanations(w: World, facts: Facts, every: Iterable[Probe]) -> dict[Probe, Explanation]:
    return {p: explain(question_of(p), facts) for p in every}


@dataclass
class Outcome:
    world: World
    fates: Mapping[Probe, Fate]
    received: Mapping[Probe, str]
    explained: Mapping[Probe, Explanation]

    @property
    def wrong(self) -> list[str]:
        """List where model, packets and explanations disagree."""
        out = []
        for p, fate in self.fates.items():
            e = self.explained[p]
            if self.received[p] != (fate.server if listens(fate, p) else ""):
                out.append(
                    f"{p}: the model says {fate}, real packets {self.received[p]!r}\n{text(e)}"
                )
            elif e.verdict != "undetermined" and e.to != shown(self.world, fate.server):
                out.append(f"{p}: all say {fate}, but explain\n{text(e)}")
        return out

    @property
    def unproved(self) -> list[str]:
        """List refusals by servers that did not answer any other client either."""
        answered = {
            target(self.world, p) for p, who in self.received.items() if who not in {"", p.who}
        }
        refused = [p for p, f in self.fates.items() if not f.server]
        aims = {p: target(self.world, p) for p in refused}
        return [str(p) for p, aim in aims.items() if aim and aim not in answered]


def target(w: World, p: Probe) -> tuple[str, str, int] | None:
    """Return the server a probe is meant for, wherever it ends; None if there is none."""
    for box in w.boxes.values():
        if p.dst in box.homes.values():
            return (box.name, p.proto, p.port) if (p.proto, p.port) in SERVED else None
    if p.dst in w.outside:
        return (w.outside[p.dst], p.proto, p.port)
    meant = (o for o in w.ports if (o.proto, o.outside) == (p.proto, p.port))
    port = next(meant, None)
    return (port.box, p.proto, port.inside) if port else ("host", p.proto, p.port)


def listens(fate: Fate, p: Probe) -> bool:
    return p.port == OWN if fate.server == "host" else (p.proto, fate.port) in SERVED


def one_round(t: Town) -> Outcome:
    every = list(dict.fromkeys(probes(t.world)))
    fates = {p: predict(t.world, p) for p in every}
    with Servers(t.services(SERVED, OWN)):
        expected = [p for p, f in fates.items() if f.server and listens(f, p)]
        received = Round(t.places()).run(every, expected)
    return Outcome(t.world, fates, received, explanations(t.world, t.facts(), every))


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
    lab: Lab, great: Town, backend: Backend
) -> None:
    before = great.net.endpoints()
    great.restart()
    assert great.net.endpoints() == before
    check(one_round(great))
    flush(lab, backend)
    flushed = great.facts()
    assert not flushed.rules.hooked or not any(c.rules for c in flushed.rules.chains.values())
    great.restart()
    check(one_round(great))


def test_explanations_name_the_access_rule_that_decides(great: Town) -> None:
    w, ids = great.world, [r.id for r in great.net.access()]
    asked = {
        (str(NEAR), LAN, 8080): ids[0],
        (str(FAR), at(w, "mate"), 99): ids[1],
        ("other", at(w, "free"), 80): ids[2],
        (str(FAR), at(w, "other"), 80): ids[4],
        (str(NEAR), LAN, 8383): ids[5],  # by a set
        (str(FAR), LAN, 8383): "",  # by what is published
        (str(FAR), at(w, "web"), 80): "",
    }
    facts = great.facts()
    explained = {
        key: explain(question_of(Probe(who=key[0], dst=key[1], port=key[2])), facts)
        for key in asked
    }
    assert {k: e.rule.access if e.rule else None for k, e in explained.items()} == asked
    assert f" {ids[0]} (ours, for container web on network one)" in text(
        explained[str(NEAR), LAN, 8080]
    )


def test_they_agree_again_once_the_guard_has_seen_a_flush(
    lab: Lab, great: Town, backend: Backend
) -> None:
    guard = ResyncLoop(great.net, RuleWatch(lab.home, legacy=backend.variant == "legacy"))
    guard.start()
    try:
        for _ in range(3):
            steps = guard.tally.steps
            flush(lab, backend)
            wait(lambda steps=steps: guard.tally.steps > steps)  # type: ignore[misc]
            wait(lambda: not great.net.drift())
            assert (great.net.drift(), guard.tally.error) == ((), "")
        check(one_round(great))
    finally:
        guard.close()


def test_what_bridge_ports_keep_apart_stays_apart_without_any_rule(
    lab: Lab, great: Town, backend: Backend
) -> None:
    w = great.world
    flush(lab, backend)
    open_, apart = (
        [Probe(who=a, dst=at(w, b), port=80), Probe(who=b, dst=at(w, a), port=80)]
        for a, b in (("web", "mate"), ("al1", "al2"))
    )
    with Servers(great.services(SERVED, OWN)):
        # By the host, to show that they do serve.
        control = [Probe(who="host", dst=at(w, b), port=80) for b in ("al1", "al2")]
        received = Round(great.places()).run([*open_, *apart, *control], [*open_, *control])
    assert [received[p] for p in open_] == ["mate", "web"]
    assert [received[p] for p in control] == ["al1", "al2"]
    assert [received[p] for p in apart] == ["", ""]
    great.net.repair()


def check(outcome: Outcome) -> None:
    wrong = outcome.wrong
    assert not wrong, "\n\n".join(wrong[:12]) + f"\n{len(wrong)} in all"
    assert not outcome.unproved
    undetermined = [e for e in outcome.explained.values() if e.verdict == "undetermined"]
    assert len(undetermined) < len(outcome.explained) / 100
