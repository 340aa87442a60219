"""Compute the verdict on a packet, the rule that decides it, and the way.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from netkit.diagnose.explain.deciding import Decider, admission, decider, led_away, of_rule
from netkit.diagnose.explain.diverted import Diverted, diverted
from netkit.diagnose.explain.facts import Facts, Published, best
from netkit.diagnose.explain.grammar import spot
from netkit.diagnose.explain.hooks import Passed, Trail, Undecided
from netkit.diagnose.explain.journey import End, Journey, Party
from netkit.diagnose.explain.packet import Ends, Packet
from netkit.diagnose.explain.question import UPLINK, Question, begin, with_uplink
from netkit.errors import NetkitError

MOST_GUESSES = 6  # unevaluable conditions on one way: 64 ways to look at

DROPPED = frozenset(
    {"rule", "isolated", "no-hairpin", "martian", "rp-filter", "guarded", "not-translated"}
)
Word = Literal["delivered", "dropped", "rejected", "not routed", "undetermined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One thing on the way."""

    hook: str
    what: str
    rule: Decider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Plain values, fit for JSON."""

    question: Question
    packet: str  # SRC -> DST PROTO/PORT, as it was sent
    verdict: Word
    reason: str  # a stable word: arrived, rule, isolated, no-route, martian, ...
    words: str  # one sentence
    to: str = ""  # the receiver
    arrived_as: str = ""  # the packet as it was when it arrived
    leg: Literal["request", "answer"] = "request"  # on which the verdict fell
    rule: Decider | None = None
    request: tuple[Hop, ...] = ()
    answer: tuple[Hop, ...] = ()
    notes: tuple[str, ...] = ()


def explain(q: Question, facts: Facts) -> Explanation:
    """Return the verdict on live rules.  Raises NotFound or InvalidSpec for an invalid question."""
    seen = with_uplink(q, facts)
    party, packet = begin(q, seen)
    found = _Explainer(q, seen, party, packet).explore(())
    notes = [*found.notes, *_by_host_port(q, seen, found)]
    world = spot(q.source).kind == "world"
    if world and seen is facts and best(facts.routes, packet.ends.src) is None:
        notes.append(f"this host has no route to the world: asked as if it came by {party.iface}")
    if seen is not facts:
        notes.append(
            "this host has no interface to the world: asked as if packets came by one called "
            f"{UPLINK}"
        )
    return replace(found, notes=tuple(notes))


def _by_host_port(q: Question, facts: Facts, found: Explanation) -> Iterable[str]:
    """What comes of the same question at the port of the host where the container's is published.

    Also which port of the container is meant, where that of the host was named.
    """
    target = facts.container(spot(q.target).name)
    if target is None or found.verdict == "delivered":
        return
    for p in facts.ports:
        if (p.container, p.proto) != (target.name, q.proto):
            continue
        if p.container_port == q.port:
            with suppress(NetkitError):  # no address of the host is next to the sender
                yield _at_host(replace(q, port=p.host_port), p, facts)
        elif p.host_port == q.port:
            yield (
                f"{p.host_port} is a port of the host, for port {p.container_port} of "
                f"{p.container}: ask for host:{p.host_port}"
            )


def _at_host(q: Question, p: Published, facts: Facts) -> str:
    anywhere = p.host_ip == "0.0.0.0"
    address = begin(replace(q, target="host"), facts).packet.ends.dst if anywhere else p.host_ip
    there = replace(q, target=str(address))
    e = _Explainer(there, facts, *begin(there, facts)).explore(())
    came = f"DELIVERED, to {e.to}" if e.to else f"{e.verdict.upper()}, {e.words}"
    return f"published as {'HOST' if anywhere else p.host_ip}:{p.host_port}/{p.proto}: there {came}"


@dataclass(frozen=True, slots=True)
class _Explainer:
    q: Question
    facts: Facts
    party: Party
    packet: Packet

    def explore(self, guesses: tuple[bool, ...]) -> Explanation:
        """Try conditions that cannot be evaluated both ways; answer if the outcome is the same."""
        try:
            return self._walk(guesses)
        except Undecided as u:
            why = f"{u.why} of rule {u.rule.text!r} cannot be evaluated"
            if len(guesses) >= MOST_GUESSES:
                return self._undetermined(u, (f"{why}, nor {MOST_GUESSES} before it",))
            no, yes = (self.explore((*guesses, guess)) for guess in (False, True))
            if (no.verdict, no.to) == (yes.verdict, yes.to):
                if no.verdict == "undetermined":
                    return no
                return replace(no, notes=(*no.notes, f"{why}, but makes no difference"))
            return self._undetermined(u, (why, f"if it holds: {yes.words}", f"if not: {no.words}"))

    def _walk(self, guesses: tuple[bool, ...]) -> Explanation:
        trail = Trail(self.facts, guesses)
        journey = Journey(self.facts, trail)
        end = journey.go(self.party, self.packet)
        request = tuple(trail.passed)
        away = diverted(self.party, self.packet, trail, ended=end.stopped)
        if away is not None:
            end = _held(end, away)
        if end.party is None or end.packet is None or self.q.one_way:
            return self._made(end, "request", request, (), away)
        back = journey.go(end.party, end.packet.answered)
        answer = tuple(trail.passed[len(request) :])
        if back.party is None:
            return self._made(back, "answer", request, answer)
        if not _same(back.party, self.party):
            astray = End(reason="no-neighbour", words=f"the answer went to {back.party}")
            return self._made(astray, "answer", request, answer)
        if back.packet is not None and not back.packet.ends.answers(self.packet.ends):
            return self._made(not_put_back(back.packet, answer), "answer", request, answer)
        return self._made(end, "request", request, answer, away)

    def _made(
        self,
        end: End,
        leg: Literal["request", "answer"],
        request: tuple[Passed, ...],
        answer: tuple[Passed, ...],
        away: Diverted | None = None,
    ) -> Explanation:
        passed = end.stopped or (admission(request) if end.party else None)
        decided = decider(passed, self.facts) if passed else None
        return Explanation(
            question=self.q,
            packet=_shown(self.packet.ends, self.packet.proto),
            verdict=_verdict(end),
            reason=end.reason,
            words=_sentence(end, leg, decided),
            to=str(end.party) if end.party else "",
            arrived_as=_shown(end.packet.ends, end.packet.proto) if end.packet else "",
            leg=leg,
            rule=decided,
            request=tuple(map(self._hop, request)),
            answer=tuple(map(self._hop, answer)),
            notes=(*self._led_away(end, away), *self._advice(end)),
        )

    def _undetermined(self, u: Undecided, notes: tuple[str, ...]) -> Explanation:
        return Explanation(
            question=self.q,
            packet=_shown(self.packet.ends, self.packet.proto),
            verdict="undetermined",
            reason="undetermined",
            words=f"it depends on {u.why}, which cannot be evaluated",
            rule=of_rule(u.rule, self.facts),
            notes=notes,
        )

    def _hop(self, passed: Passed) -> Hop:
        return Hop(hook=passed.hook, what=passed.what, rule=decider(passed, self.facts))

    def _led_away(self, end: End, away: Diverted | None) -> Iterable[str]:
        """A published port whose packets do not go to its container, though they arrive."""
        if away is not None and away.by is not None and end.reason != "not-translated":
            yield led_away(away, self.facts)

    def _advice(self, end: End) -> Iterable[str]:
        """Advise where else the target can be reached."""
        if end.party is not None and end.party.kind == "host":
            for p in self.facts.ports:
                if (p.proto, p.host_port) == (self.q.proto, self.q.port):
                    yield f"port {p.host_port} of {p.container} is published on {p.host_ip} only"


def not_put_back(packet: Packet, passed: tuple[Passed, ...]) -> End:
    """Return the end of an answer that its receiver does not recognise as one."""
    src, port = packet.ends.src, packet.ends.sport[0]
    words = f"it comes from {src}" + (f":{port}" if port else "") + ", not from whom was asked"
    untracked = next((p for p in passed if p.what == "untrack"), None)
    return End(reason="not-translated", words=words, stopped=untracked, at=packet)


def _held(end: End, away: Diverted) -> End:
    """The socket that netkit holds for a published port never answers."""
    port = (away.port.host_port, away.port.host_port)
    at_socket = end.party is not None and end.party.kind == "host" and end.packet is not None
    if not (at_socket and end.packet is not None and end.packet.ends.dport == port):
        return end
    where = f"{away.port.container}, for which port {away.port.host_port} is published"
    words = f"it is not translated to {where}"
    return End(reason="not-translated", words=words, stopped=away.by, at=end.packet)


def _same(one: Party, other: Party) -> bool:
    return (one.kind, one.name, one.iface) == (other.kind, other.name, other.iface)


def _verdict(end: End) -> Word:
    if end.party is not None:
        return "delivered"
    if end.rejected:
        return "rejected"
    if end.reason in DROPPED:
        return "dropped"
    return "not routed"


def _sentence(end: End, leg: str, decider: Decider | None) -> str:
    who = "its answer was " if leg == "answer" else ""
    if end.reason == "not-translated":
        words = f"its answer: {end.words}" if who else end.words
        return f"{words}, because of {decider.place}: {decider.words}" if decider else words
    if end.party is not None:
        how = f", let in by {decider.place}: {decider.words}" if decider else ""
        return f"delivered to {end.party}{how}"
    if decider is not None:
        verb = "rejected" if end.rejected else "dropped"
        return f"{who}{verb} by {decider.place}: {decider.words}"
    return f"{who}stopped: {end.words}" if who else end.words


def _shown(ends: Ends, proto: str) -> str:
    low, high = ends.dport
    port = f"{low}" if low == high else f"{low}-{high}"
    return f"{ends.src} -> {ends.dst} " + ("icmp" if proto == "icmp" else f"{proto}/{port}")
