"""Which files of tests run a second time, alone: those of a few tests that failed beside others.

The root stages run against real kernels and daemons, four parts at a time: a wait that is too short
on a busy machine fails there.  A test that passes alone is reported by name as one that does not
always pass, which is a fault of it or of netkit, to be found; it does not keep all the others from
landing.  Many failures are no accident, and a part that ended in another way than by failing tests
is not repeated.
"""

from __future__ import annotations

import xml.etree.ElementTree as xml
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.parts import file_of

MOST_TESTS = 4
"""Failed tests of one run up to which their files run again."""


def outcomes(reports: Iterable[Path]) -> dict[tuple[str, str], str]:
    """(file, name of the test) to "passed", "failed" or "skipped", by pytest's XML files.

    The last one counts where there are several of a test: of its teardown, or of a second run.
    Files that were cut short are left out.
    """
    found: dict[tuple[str, str], str] = {}
    for report in reports:
        try:
            cases = list(xml.parse(report).iter("testcase"))
        except (OSError, xml.ParseError):
            continue
        for case in cases:
            kinds = {child.tag for child in case}
            name = f"{case.get('classname', '')}::{case.get('name', '')}"
            result = "skipped" if "skipped" in kinds else "passed"
            bad = kinds & {"failure", "error"}
            found[file_of(case.get("classname", "")), name] = "failed" if bad else result
    return found


def failed(results: Mapping[tuple[str, str], str]) -> list[tuple[str, str]]:
    return sorted(test for test, result in results.items() if result == "failed")


def files(report: Path) -> list[str]:
    """The files of a part that run again; none where that is of no use."""
    return sorted({file for file, _ in failed(outcomes([report]))})


def total(results: Mapping[tuple[str, str], str]) -> str:
    """Return the closing line."""
    count = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for result in results.values():
        count[result] += 1
    return ", ".join(f"{number} {result}" for result, number in count.items())
