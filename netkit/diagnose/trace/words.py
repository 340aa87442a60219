"""A trace as text: one line a hop, then the verdict, its reason code, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netkit.diagnose.trace.join import Trace
from netkit.diagnose.trace.leg import Step


def text(t: Trace) -> str:
    return "\n".join(_lines(t))


def _lines(t: Trace) -> Iterator[str]:
    q = t.question
    packet = f"  ({t.packet})" if t.packet else ""
    yield f"{q.source} -> {q.target} {q.proto}" + (f"/{q.port}" if q.port else "") + packet
    for name, steps in (("there", t.request), ("back", t.answer)):
        if steps:
            yield f"{name}:"
            yield from _way(steps)
    yield f"{t.verdict} ({t.code}): {t.words}"
    for note in t.notes:
        yield f"note: {note}"
    if t.fix:
        yield f"fix:  {t.fix}"


def _way(steps: Sequence[Step]) -> Iterator[str]:
    places = [f"{s.host}: {s.where}" if s.host else s.where for s in steps]
    width = max(map(len, places))
    for number, (place, step) in enumerate(zip(places, steps, strict=True), 1):
        yield f"  {number:>2}  {place:<{width}}  {step.what:<7} {step.why}"
