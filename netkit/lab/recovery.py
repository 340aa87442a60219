"""When a path worked again after a fault, from a stream of probes.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEADY = 5  # answers in a row, from the first of which on a path works


@dataclass(frozen=True, slots=True)
class Probe:
    """Times by one clock, in seconds; `answered` None: not so far."""

    sent: float
    answered: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Of one path and one fault.

    `recovery`: seconds from the fault's end to the answer from which on the path works; 0 if
    nothing was lost; None if it does not.
    """

    sent: int
    lost: int
    outage: float  # seconds from the first probe that was lost to the answer; 0 if none was
    recovery: float | None


def outage(probes: Sequence[Probe], begin: float, mark: float) -> Outage:
    """Of a fault from `begin` on, of which the path may recover from `mark` on."""
    since = [p for p in probes if p.sent >= begin]
    again = _steady([p for p in since if p.sent >= mark])
    until = [p for p in since if again is None or p.sent < again.sent]
    lost = [p for p in until if p.answered is None]
    if again is None or again.answered is None:
        ended = since[-1].sent if since else begin
        return Outage(sent=len(since), lost=len(lost), recovery=None,
                      outage=ended - lost[0].sent if lost else 0.0)  # fmt: skip
    if not lost:
        return Outage(sent=len(until), lost=0, outage=0.0, recovery=0.0)
    return Outage(sent=len(until), lost=len(lost), outage=again.answered - lost[0].sent,
                  recovery=again.answered - mark)  # fmt: skip


def _steady(probes: Sequence[Probe]) -> Probe | None:
    """The first of the answers in a row."""
    row = 0
    for number, probe in enumerate(probes):
        row = row + 1 if probe.answered is not None else 0
        if row == STEADY:
            return probes[number - STEADY + 1]
    return None
