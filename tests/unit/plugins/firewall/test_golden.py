"""Golden rule sets over the whole matrix of options."""

from __future__ import annotations

import os
from functools import cache

import pytest

from tests.unit.plugins.firewall.firewall_matrix import (
    BACKENDS,
    CASES,
    OPTIONS,
    Backend,
    Condition,
    Line,
    expected,
    written,
)

pytestmark = pytest.mark.slow

UPDATE = bool(os.environ.get("NETKIT_UPDATE_GOLDEN"))
golden = cache(expected)


@pytest.fixture(params=BACKENDS, ids=lambda b: b.name, scope="module")
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    if UPDATE:
        found.file.parent.mkdir(parents=True, exist_ok=True)
        found.file.write_text(written(found))
    return found


@pytest.mark.parametrize("ports", OPTIONS["ports"])
@pytest.mark.parametrize("mode", OPTIONS["mode"])
def test_the_rule_set_of_every_case_is_the_golden_one(
    backend: Backend, mode: str, ports: str
) -> None:
    names = [*OPTIONS]
    table = [
        ([(names.index(n), frozenset(vs)) for n, vs in condition.allowed], line)
        for condition, line in golden(backend)
    ]
    for case in (c for c in CASES if c[:2] == (mode, ports)):
        due = {line for needs, line in table if all(case[i] in vs for i, vs in needs)}
        made = backend.rendered(case)
        assert _shown(made - due) == _shown(due - made) == [], case


def _shown(lines: set[Line] | frozenset[Line]) -> list[str]:
    return sorted(f"{line.place} [{line.rank}] {line.text}" for line in lines)


def test_the_golden_file_is_as_short_as_can_be(backend: Backend) -> None:
    """Neither a line that no case has, nor an option in a condition that makes no difference."""
    conditions: dict[Line, list[Condition]] = {}
    for condition, line in golden(backend):
        conditions.setdefault(line, []).append(condition)
    assert written(backend) == backend.file.read_text()
    for line, all_of_it in conditions.items():
        for case in CASES[::7]:
            assert sum(c.holds(case) for c in all_of_it) <= 1, line


def test_the_matrix_has_hundreds_of_different_rule_sets(backend: Backend) -> None:
    distinct = {backend.rendered(case) for case in CASES}
    assert len(distinct) >= 200
    assert len(CASES) > 2 * len(distinct)  # and many cases are the same on purpose


def _alike(backend: Backend, option: str, **fixed: str) -> bool:
    """Does `option` make no difference to any case in which the other options have these values?"""
    at = [*OPTIONS].index(option)
    groups: dict[tuple[str, ...], set[frozenset[Line]]] = {}
    for case in CASES:
        have = dict(zip(OPTIONS, case, strict=True))
        if all(have[name] == value for name, value in fixed.items()):
            rest = case[:at] + case[at + 1 :]
            groups.setdefault(rest, set()).add(backend.rendered(case))
    assert groups
    return all(len(g) == 1 for g in groups.values())


@pytest.mark.parametrize(
    ("option", "fixed"),
    [
        ("link", {"icc": "on"}),  # neighbours reach each other anyway
        ("source", {"masq": "off"}),  # nothing leaves with another source
        *(("masq", {"mode": m}) for m in ("routed", "internal", "isolated")),
        *(("source", {"mode": m}) for m in ("routed", "internal", "isolated")),
        *(("trusted", {"mode": m}) for m in ("nat-unprotected", "routed", "internal", "isolated")),
        *(("ports", {"mode": m}) for m in ("internal", "isolated")),  # nothing is published there
        ("trusted", {"ports": "none"}),
        ("trusted", {"ports": "loopback"}),
    ],
)
def test_an_option_without_meaning_has_no_effect(
    backend: Backend, option: str, fixed: dict[str, str]
) -> None:
    assert _alike(backend, option, **fixed)


def test_every_option_has_an_effect_somewhere(backend: Backend) -> None:
    assert [name for name in OPTIONS if _alike(backend, name)] == []
