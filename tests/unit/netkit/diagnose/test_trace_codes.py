"""Every reason code of `net trace` is provoked for real, by a test that holds it to packets."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from netkit.diagnose.trace.codes import CODES
from tests.places import ROOT

TESTS = ROOT / "tests"
REAL = (
    "labs/test_trace.py", "engine/test_trace.py", "engine/test_trace_foreign.py",
    "engine/test_trace_weave.py",
)  # fmt: skip


def expected(node: ast.AST) -> Iterator[str]:
    """Find codes that a test asserts: compared with a trace's, or the first of a row."""
    for n in ast.walk(node):
        found: list[ast.expr] = []
        match n:
            case ast.Compare(ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
                found = right.elts if isinstance(right, ast.Tuple) else [right]
            case ast.For(iter=ast.Tuple(elts=rows)):
                found = [e for row in rows if isinstance(row, ast.Tuple) for e in row.elts]
            case ast.Call(func=ast.Name(id="Fault" | "typed") | ast.Attribute(attr="agrees")):
                found = [*n.args, *(k.value for k in n.keywords)]
        yield from (c.value for c in found if isinstance(c, ast.Constant) and c.value in CODES)


def provoked(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (code, test) of one module: of its tables, and of functions with an assertion."""
    for n in ast.parse(file.read_text()).body:
        if isinstance(n, ast.FunctionDef):
            name = n.name if any(isinstance(x, ast.Assert) for x in ast.walk(n)) else ""
        else:
            name = ast.unparse(n).partition(" ")[0] if isinstance(n, ast.Assign) else ""
        if name:
            yield from ((code, f"{file.relative_to(TESTS)}::{name}") for code in expected(n))


def by_code() -> Mapping[str, set[str]]:
    out: dict[str, set[str]] = defaultdict(set)
    for name in REAL:
        for code, test in provoked(TESTS / name):
            out[code].add(test)
    return out


def test_every_code_is_provoked_for_real() -> None:
    found = by_code()
    assert set(CODES) - found.keys() == set()


def test_a_code_that_is_only_named_is_not_taken_for_provoked() -> None:
    named = "PASSING = frozenset({'hooked'})\ndef test():\n    return found in ('beyond', 'hooked')"
    asked = "def test():\n    assert (found.verdict, found.code) == ('LOST', 'martian')"
    assert list(expected(ast.parse(named))) == []
    assert list(expected(ast.parse(asked))) == ["martian"]
