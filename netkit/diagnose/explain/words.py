"""An explanation as text: the verdict, the rule that decides, the way.  For example

lan 198.51.100.9 -> web  (198.51.100.9 -> 172.18.0.2 tcp/80)
DROPPED: dropped by rule 3 of filter DOCKER (iptables-nft), ours, for network one
    -A DOCKER ! -i br-0123 -o br-0123 ... -j DROP
note: published as HOST:8080/tcp: there DELIVERED, to container web
the way:
    forward      filter FORWARD 1         jump DOCKER-USER
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netkit.diagnose.explain.answer import Explanation, Hop


def text(e: Explanation) -> str:
    return "\n".join(_lines(e))


def _lines(e: Explanation) -> Iterator[str]:
    q = e.question
    yield f"{q.source} -> {q.target}  ({e.packet})"
    yield f"{e.verdict.upper()}: {e.words}"
    if e.rule is not None:
        yield f"    {e.rule.text}"
    if e.arrived_as and e.arrived_as != e.packet:
        yield f"    it arrives as {e.arrived_as}"
    for note in e.notes:
        yield f"note: {note}"
    for name, hops in (("the way", e.request), ("the answer's way", e.answer)):
        if hops:
            yield f"{name}:"
            yield from _way(hops)


def _way(hops: Iterable[Hop]) -> Iterator[str]:
    for hop in hops:
        r = hop.rule
        where = f"{r.table} {r.chain} {r.number or 'policy'}" if r else "connection tracking"
        yield f"    {hop.hook:<12} {where:<28} {hop.what}"
