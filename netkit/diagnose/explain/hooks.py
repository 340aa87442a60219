"""Evaluate all chains at one hook on a packet, as netfilter does; note the rules that match.

    base chains in order of priority; an accept ends one base chain, a drop ends the packet
    priority -200: connection tracking; -100 and 100: addresses of answers are put back

Sources: net/netfilter/nf_nat_core.c, nf_tables_core.c, ip_tables.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import NamedTuple

from netkit.diagnose.explain.facts import Facts
from netkit.diagnose.explain.packet import EPHEMERAL, Packet, Span
from netkit.diagnose.explain.ruleset import (
    Chain,
    Element,
    Hook,
    Lookup,
    Mystery,
    Rule,
    To,
    Verdict,
)

CONNTRACK = -200
TRANSLATE = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}
DEPTH = 64  # jumps; the kernel allows 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One thing that happened on the way: a rule that took part, or what stands for one."""

    hook: str
    what: str  # accept, drop, jump DOCKER, dnat to 172.17.0.2:80, ...
    rule: Rule | None = None
    base: Chain | None = None  # where the chain's policy decided
    entry: str = ""  # the element of a map that decided within the rule
    comment: str = ""  # whose that is
    nat: bool = False  # it stands in a chain that translates


class Undecided(Exception):
    """A condition depends on what we do not know; `rule` is where."""

    def __init__(self, rule: Rule, why: str) -> None:
        super().__init__(why)
        self.rule = rule
        self.why = why


class Stopped(Exception):
    """The packet ends here: dropped or rejected."""

    def __init__(self, kind: str, passed: Passed, packet: Packet | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.passed = passed
        self.packet = packet  # as it was there


@dataclass(slots=True)
class Trail:
    """State of one walk.  `guesses` answer, in turn, the conditions that cannot be evaluated."""

    facts: Facts
    guesses: tuple[bool, ...] = ()
    passed: list[Passed] = field(default_factory=list)
    asked: int = 0

    def guess(self, rule: Rule, why: str) -> bool:
        if self.asked >= len(self.guesses):
            raise Undecided(rule, why)
        self.asked += 1
        return self.guesses[self.asked - 1]

    def note(self, hook: str, what: str) -> None:
        self.passed.append(Passed(hook=hook, what=what))

    def decided(self, hook: str, rule: Rule, verdict: Verdict, *, nat: bool = False) -> None:
        self.passed.append(
            Passed(
                hook=hook,
                what=" ".join(_words(verdict)),
                rule=rule,
                entry=verdict.entry,
                comment=verdict.comment or rule.comment,
                nat=nat,
            )
        )


def through(trail: Trail, hook: Hook, packet: Packet) -> Packet:
    """The packet as it leaves the hook.  Raises Stopped, or Undecided."""
    back = TRANSLATE.get(hook)
    for chain in trail.facts.rules.hooked.get(hook, ()):
        if back is not None and chain.priority >= back:
            packet, back = _put_back(trail, hook, packet), None
        if chain.nat:
            if packet.flow.fresh and _untranslated(packet, hook):
                packet = _Chains(trail, hook, chain).base(packet)
        elif chain.priority <= CONNTRACK and hook in {"prerouting", "output"}:
            packet = _before_tracking(trail, hook, chain, packet)
        else:
            packet = _Chains(trail, hook, chain).base(packet)
    return _put_back(trail, hook, packet) if back is not None else packet


def _before_tracking(trail: Trail, hook: Hook, chain: Chain, packet: Packet) -> Packet:
    """Evaluate rules before connection tracking: no flow yet, unless the packet came through lo."""
    flow = packet.flow
    blank = replace(packet, flow=replace(flow, state="invalid", answer=flow.answer))
    seen = _Chains(trail, hook, chain).base(blank)
    state = seen.flow.state if seen.flow.state == "untracked" else flow.state
    return replace(seen, flow=replace(flow, state=state))


def _untranslated(packet: Packet, hook: Hook) -> bool:
    """A flow is translated once: to a destination first, to a source later."""
    return ("dst" if hook in {"prerouting", "output"} else "src") not in packet.flow.bound


def _put_back(trail: Trail, hook: Hook, packet: Packet) -> Packet:
    """Reverse the translation of a reply."""
    flow = packet.flow
    if not flow.answer or flow.state == "untracked":
        return packet
    if hook in {"prerouting", "output"}:
        if not flow.snat or packet.ends.dst != flow.sent.src:
            return packet
        trail.note(hook, f"answer: to {flow.original.src} again")
        return packet.to(flow.original.src, flow.original.sport)
    if not flow.dnat or packet.ends.src != flow.sent.dst:
        return packet
    trail.note(hook, f"answer: from {flow.original.dst} again")
    return packet.of(flow.original.dst, flow.original.dport)


class _Walked(NamedTuple):
    """The packet after a chain, and the verdict that ended it all; None: the chain ended first."""

    packet: Packet
    verdict: Verdict | None = None


class _Translation(NamedTuple):
    address: IPv4Address
    port: Span


@dataclass(slots=True)
class _Chains:
    """The walk through one base chain and what it jumps to."""

    trail: Trail
    hook: Hook
    origin: Chain

    def base(self, packet: Packet) -> Packet:
        packet, verdict = self._chain(self.origin, packet, 0)
        if verdict is None and self.origin.policy == "drop":
            policy = Passed(hook=self.hook, what="drop", base=self.origin)
            self.trail.passed.append(policy)
            raise Stopped("drop", policy, packet)
        return packet

    def _chain(self, chain: Chain, packet: Packet, depth: int) -> _Walked:
        for rule in chain.rules:
            verdict = self._rule(rule, packet)
            if verdict is None or verdict.kind == "pass":
                continue
            self.trail.decided(self.hook, rule, verdict, nat=self.origin.nat)
            match verdict.kind:
                case "accept":
                    return _Walked(packet, verdict)
                case "drop" | "reject":
                    raise Stopped(verdict.kind, self.trail.passed[-1], packet)
                case "return":
                    return _Walked(packet)
                case "jump" | "goto":
                    packet, end = self._jump(chain, rule, verdict, packet, depth)
                    if end is not None or verdict.kind == "goto":
                        return _Walked(packet, end)
                case "mark":
                    value, mask = verdict.mark
                    packet = replace(packet, mark=packet.mark & ~mask ^ value)
                case "untrack":
                    packet = replace(packet, flow=replace(packet.flow, state="untracked"))
                case "dnat" | "snat" | "masquerade" | "redirect":
                    which = "dst" if verdict.kind in {"dnat", "redirect"} else "src"
                    translated = self._translated(rule, verdict, packet).bind(which)
                    return _Walked(translated, verdict)
        return _Walked(packet)

    def _jump(
        self, chain: Chain, rule: Rule, verdict: Verdict, packet: Packet, depth: int
    ) -> _Walked:
        target = self.trail.facts.rules.chain(chain, verdict.chain)
        if target is None or depth >= DEPTH:  # a target that is no chain, hence unknown to us
            if self.trail.guess(rule, f"what {verdict.chain} does"):
                return _Walked(packet, Verdict(kind="accept"))
            raise Stopped("drop", self.trail.passed[-1])
        return self._chain(target, packet, depth + 1)

    def _rule(self, rule: Rule, packet: Packet) -> Verdict | None:
        """What the rule does to this packet; None if it is not meant."""
        if rule.harmless:
            return None
        facts = self.trail.facts
        mysteries: list[str] = []
        element = Element()
        for step in rule.steps:
            match step:
                case Verdict():
                    sure = not mysteries or self.trail.guess(rule, " and ".join(mysteries))
                    return _by_element(step, element) if sure else None
                case Lookup():
                    found, certain = step.find(packet, facts)
                    if found is None:
                        return None
                    if not certain:
                        mysteries.append("the source port")
                    sure = not mysteries or self.trail.guess(rule, " and ".join(mysteries))
                    return found if sure else None
                case Mystery(text=text, acts=False):
                    mysteries.append(text)
                case Mystery(text=text):
                    if not self.trail.guess(rule, text):
                        raise Stopped("drop", Passed(hook=self.hook, what="drop", rule=rule))
                    return Verdict(kind="accept")
                case _:
                    holds = step.holds(packet, facts)
                    if holds is False:
                        return None
                    if holds is None:
                        mysteries.append(f"the {step.fields[0]} of the packet")
                    elif step.elements:
                        element = step.element(packet, facts)
        return None

    def _translated(self, rule: Rule, verdict: Verdict, packet: Packet) -> Packet:
        match verdict.kind:
            case "masquerade":
                return self._masqueraded(rule, packet)
            case "redirect":
                return self._redirected(verdict.to, packet)
            case "dnat":
                address, port = self._choice(rule, verdict.to, packet.ends.dst, packet.ends.dport)
                return packet.to(address, port)
        address, port = self._choice(rule, verdict.to, packet.ends.src, packet.ends.sport)
        return packet.of(address, port)

    def _choice(self, rule: Rule, to: To, address: IPv4Address, port: Span) -> _Translation:
        if to.addresses:
            low, high = to.addresses
            if low != high and not self.trail.guess(rule, f"which of {low}-{high} is taken"):
                address = high
            else:
                address = low
        if to.ports == (0, 0):
            return _Translation(address, port)
        if to.base:
            shift = to.ports[0] - to.base
            return _Translation(address, (port[0] + shift, port[1] + shift))
        inside = to.ports[0] <= port[0] and port[1] <= to.ports[1]
        return _Translation(address, port if inside else to.ports)

    def _masqueraded(self, rule: Rule, packet: Packet) -> Packet:
        facts = self.trail.facts
        path = facts.route(packet.ends.dst)
        source = facts.source(path, packet.ends.dst) if path else None
        interface = facts.interfaces.get(packet.oif)
        if interface is not None and (path is None or path.dev != packet.oif):
            source = next((a.ip for a in interface.addresses), source)
        if source is None:  # nf_nat_masquerade.c: no address, no packet
            raise Stopped("drop", Passed(hook=self.hook, what="drop", rule=rule))
        return packet.of(source, packet.ends.sport)

    def _redirected(self, to: To, packet: Packet) -> Packet:
        port = to.ports if to.ports != (0, 0) else packet.ends.dport
        if self.hook == "output":
            return packet.to(IPv4Address("127.0.0.1"), port)
        interface = self.trail.facts.interfaces.get(packet.iif)
        own = next((a.ip for a in interface.addresses), None) if interface else None
        return packet.to(own or packet.ends.dst, port)


def _by_element(verdict: Verdict, element: Element) -> Verdict:
    if not element.words:
        return verdict
    return replace(verdict, entry=element.words, comment=element.comment)


def _words(verdict: Verdict) -> Iterator[str]:
    yield verdict.kind
    if verdict.chain:
        yield verdict.chain
    if verdict.to.addresses or verdict.to.ports != (0, 0):
        low, high = verdict.to.addresses or ("", "")
        where = f"{low}" if low == high else f"{low}-{high}"
        first, last = verdict.to.ports
        port = "" if first == 0 else f":{first}" if first == last else f":{first}-{last}"
        yield f"to {where}{port}" + (f"/{verdict.to.base}" if verdict.to.base else "")


__all__ = ["EPHEMERAL", "Passed", "Stopped", "Trail", "Undecided", "through"]
