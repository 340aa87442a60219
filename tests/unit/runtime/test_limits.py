"""docs/limits.md says what the constants say, and where they are used."""

from __future__ import annotations

import importlib
import re

import pytest

from runtime import limits
from tests.places import ROOT

ROW = re.compile(r"\| `([\w.]+)` \| ([0-9,]+)(?: (KiB|MiB|GiB|s))? \| .+ \| `([\w/.]+)` \|")
UNITS = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ROWS = [
    (name, int(number.replace(",", "")) * UNITS[unit], file)
    for name, number, unit, file in ROW.findall((ROOT / "docs/limits.md").read_text())
]


@pytest.mark.parametrize(("name", "value", "file"), ROWS, ids=[row[0] for row in ROWS])
def test_a_bound_is_what_the_page_says_and_is_looked_at_there(
    name: str, value: int, file: str
) -> None:
    module, _, constant = name.rpartition(".")
    assert getattr(importlib.import_module(module) if module else limits, constant) == value
    text = (ROOT / file).read_text()
    assert re.search(rf"\b{constant}\b" if module else rf"limits\.{constant}\b", text)


def test_the_page_has_every_bound() -> None:
    constants = {name for name in vars(limits) if name.isupper()}
    assert constants == {name for name, _, _ in ROWS if "." not in name}
