"""Results of checks for people and for programs.  Pure.

One sign a question:

    ✓ answers, as expected   · silent, as expected   ✗ should answer and does not
    ! LEAK: should be silent and answers     ? undetermined: silence that proves nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netkit.lab.checking import Result

LEGEND = "✓ answers  · silent as expected  ✗ no answer  ! LEAK  ? undetermined"
GREEN, RED, YELLOW, RESET = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


def passed(results: Sequence[Result]) -> bool:
    """Everything is as it should be, and nothing is undetermined."""
    return all(r.standing == "pass" for r in results)


def glyph(r: Result) -> str:
    if r.standing == "undetermined":
        return "?"
    if r.question.check.negative:
        return "·" if r.standing == "pass" else "!" if r.seen and r.seen.reached else "✗"
    return "✓" if r.standing == "pass" else "✗"


def _named(r: Result) -> str:
    check = r.question.check
    return check.target + (f"@{check.where}" if check.where else "")


def table(results: Sequence[Result], *, colour: bool = False) -> str:
    """A line for each question: expected, observed, and why."""
    rows = [("", "CHECK", "EXPECTED", "OBSERVED", "BECAUSE")]
    for r in results:
        seen = r.seen.verdict if r.seen else "-"
        why = r.seen.why if r.seen else ""
        because = "; ".join(text for text in (why, r.control) if text)
        check = f"{r.question.check.source} -> {_named(r)} {r.question.service}"
        rows.append((glyph(r), check, r.question.check.outcome, seen, because))
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    lines = []
    traces = ["", *(r.trace for r in results)]
    for row, trace in zip(rows, traces, strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        line = "  ".join([*cells, row[4]]).rstrip()
        lines.append(_coloured(row[0], line) if colour else line)
        if trace:
            lines.append(f"   trace: {trace}")
    return "\n".join(lines)


def _coloured(mark: str, line: str) -> str:
    tone = {"✓": GREEN, "·": GREEN, "✗": RED, "!": RED, "?": YELLOW}.get(mark)
    return f"{tone}{line}{RESET}" if tone else line


def matrix(results: Sequence[Result]) -> str:
    """Sources by targets, a grid for each service; blank where nothing was asked."""
    services = dict.fromkeys(r.question.service for r in results)
    return "\n\n".join(
        _grid(name, [r for r in results if r.question.service == name]) for name in services
    )


def _grid(service: str, results: Sequence[Result]) -> str:
    sources = list(dict.fromkeys(r.question.check.source for r in results))
    targets = list(dict.fromkeys(_named(r) for r in results))
    cells = {(r.question.check.source, _named(r)): glyph(r) for r in results}
    left = max(map(len, [service, *sources]))
    head = service.ljust(left) + "".join(f"  {t}" for t in targets)
    body = [
        s.ljust(left) + "".join("  " + cells.get((s, t), " ").center(len(t)) for t in targets)
        for s in sources
    ]
    return "\n".join(line.rstrip() for line in (head, *body))


def summary(lab: str, results: Sequence[Result]) -> str:
    bad = [r for r in results if r.standing == "fail"]
    open_ = [r for r in results if r.standing == "undetermined"]
    held = f"{len(results) - len(bad) - len(open_)} of {len(results)} checks hold"
    more = [f"{len(bad)} fail" if bad else "", f"{len(open_)} undetermined" if open_ else ""]
    return f"{lab}: " + ", ".join([held, *filter(None, more)])


def document(lab: str, results: Sequence[Result], drift: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "lab": lab,
        "ok": passed(results) and not drift,
        "drift": list(drift),
        "checks": [
            {
                "source": r.question.check.source,
                "target": r.question.check.target,
                "where": r.question.check.where,
                "address": r.question.address,
                "protocol": r.question.proto,
                "port": r.question.port,
                "expected": r.question.check.outcome,
                "observed": r.seen.verdict if r.seen else None,
                "reason": r.seen.why if r.seen else "",
                "control": r.control,
                "trace": r.trace,
                "result": r.standing,
            }
            for r in results
        ],
    }
