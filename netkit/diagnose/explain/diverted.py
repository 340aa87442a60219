"""Find the rule that diverts a packet for a published port from its container.  Pure.

The kernel translates a flow once, in the first nat rule that ends the chain, and never one that
is untracked (net/netfilter/nf_nat_core.c).  So a rule of another tool before netkit's decides.
Which one is found by walking the same way again without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from netkit.diagnose.explain.facts import Facts, Published
from netkit.diagnose.explain.hooks import Passed, Trail, Undecided
from netkit.diagnose.explain.journey import Journey, Party
from netkit.diagnose.explain.packet import Packet

MARK = "netkit:"
IN_NAT = frozenset({"accept", "return", "goto", "dnat", "redirect"})
BEFORE_NAT = frozenset({"untrack", "mark"})
FIRST_HOOKS = frozenset({"prerouting", "output"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverted:
    """A packet for `port` that no rule of netkit's translated; `by` the rule that decided so.

    Without `by` there is no rule that would translate it.
    """

    port: Published
    by: Passed | None = None


def published(facts: Facts, packet: Packet) -> Published | None:
    """The published port that the packet is for, as it is sent."""
    dst, dport = packet.ends.dst, packet.ends.dport
    for p in facts.ports:
        here = p.host_ip == str(dst) or (p.host_ip == "0.0.0.0" and facts.is_local(dst))
        if here and (p.proto, (p.host_port, p.host_port)) == (packet.proto, dport):
            return p
    return None


def diverted(
    party: Party, packet: Packet, trail: Trail, asked: int = 0, *, ended: Passed | None = None
) -> Diverted | None:
    """Why the way in `trail` leads a packet for a published port elsewhere; None if it does not.

    `asked` is how many of the trail's guesses were used before the way began; `ended` the rule
    that stopped the packet: one before translation decides by itself.
    """
    port = published(trail.facts, packet)
    if port is None or not packet.flow.fresh or _led(trail.passed):
        return None
    if ended is not None and ended.hook in FIRST_HOOKS and not ended.nat:
        return None
    found = list(_suspects(trail.passed))
    for one in found:
        if _would_lead(party, packet, trail, asked, [one]):
            return Diverted(port=port, by=one)
    if len(found) > 1 and _would_lead(party, packet, trail, asked, found):
        return Diverted(port=port, by=found[0])
    return Diverted(port=port)


def _led(passed: Sequence[Passed]) -> bool:
    """Whether one of netkit's rules translated it."""
    return any(p.what.startswith("dnat ") and p.comment.startswith(MARK) for p in passed)


def _suspects(passed: Sequence[Passed]) -> Iterator[Passed]:
    for p in passed:
        word = p.what.partition(" ")[0]
        foreign = p.rule is not None and not p.comment.startswith(MARK)
        if foreign and p.hook in FIRST_HOOKS and word in (IN_NAT if p.nat else BEFORE_NAT):
            yield p


def _would_lead(
    party: Party, packet: Packet, trail: Trail, asked: int, without: Sequence[Passed]
) -> bool:
    rules = trail.facts.rules
    for p in without:
        if p.rule is not None:
            rules = rules.without(p.rule)
    facts = replace(trail.facts, rules=rules)
    again = Trail(facts, trail.guesses, asked=asked)
    try:
        Journey(facts, again).go(party, packet)
    except Undecided:
        return False
    return _led(again.passed)
