"""What happened in a schedule, for people and for programs.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from netkit.lab import report
from netkit.lab.recovery import Outage
from netkit.lab.rehearsal import Happened, Rehearsed


def text(lab: str, found: Rehearsed, *, colour: bool = False) -> str:
    """All of it: checks before, events with theirs, and what has not held since."""
    parts = [report.table(found.before, colour=colour), report.matrix(found.before), report.LEGEND]
    parts += ["\n".join(_event(each, colour)) for each in found.events]
    if found.after is None:
        parts.append("the schedule was not run: checks do not hold before it")
    elif found.events:
        bad = [r for r in found.after if r.standing != "pass"]
        again = report.table(bad, colour=colour) if bad else "all checks hold"
        parts.append(f"afterwards: {again}")
    parts.append(report.summary(lab, [*found.before, *(found.after or ())]))
    return "\n\n".join(parts)


def _event(h: Happened, colour: bool) -> Iterator[str]:
    mark = "✓" if h.ok else "✗"
    yield f"{mark} {h.event.name}: {h.event.fault.text}, from {h.began:.2f} s to {h.ended:.2f} s"
    if h.during:
        yield report.table(h.during, colour=colour)
    if h.overtime > 0:
        yield f"✗ its checks took {h.overtime:.2f} s longer than it lasts: give it more time"
    for path, seen in h.outages.items():
        yield f"{'✗' if h.slow(seen) else '✓'} {path}: {_outage(h, seen)}"


def _outage(h: Happened, seen: Outage) -> str:
    lost = f"{seen.lost} of {seen.sent} probes lost in {seen.outage:.2f} s"
    if seen.recovery is None:
        return f"{lost}, has not recovered"
    within = "" if h.event.within is None else f", asked for within {h.event.within:g} s"
    return f"{lost}, recovered {seen.recovery:.2f} s after its end{within}"


def document(lab: str, found: Rehearsed, drift: Sequence[str] = ()) -> dict[str, Any]:
    """As `report.document`, and of a schedule its events, times in seconds since it began."""
    out = report.document(lab, found.before, drift) | {"ok": found.ok and not drift}
    if not found.events and found.after is not None:
        return out
    after = None if found.after is None else report.document(lab, found.after)["checks"]
    return out | {"schedule": [_happened(h) for h in found.events], "after": after}


def _happened(h: Happened) -> dict[str, Any]:
    return {
        "name": h.event.name,
        "fault": h.event.fault.text,
        "at": h.event.at,
        "began": round(h.began, 4),
        "ended": round(h.ended, 4),
        "ok": h.ok,
        "during": report.document("", h.during)["checks"],
        "overtime": round(max(h.overtime, 0.0), 4),
        "within": h.event.within,
        "recovery": [
            {"path": str(path), "sent": o.sent, "lost": o.lost, "outage": round(o.outage, 4),
             "recovery": None if o.recovery is None else round(o.recovery, 4),
             "ok": not h.slow(o)}
            for path, o in h.outages.items()
        ],
    }  # fmt: skip
