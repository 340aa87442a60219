"""Functions have at most 40 lines, as CONTRIBUTING.md demands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages import CLONE

FILES = [f for part in ("netkit", "runtime", "plugins") for f in (CLONE / part).rglob("*.py")]
LINES = 40
# Those that are longer; what is split goes from here, and nothing comes.
FUNCTIONS = {
    "netkit/cli/mounts.py::_apply",
    "runtime/daemon/bootstrap_containers.py::build_container_services",
}


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of each, decorators not counted."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.slow
def test_functions_are_no_longer_than_promised() -> None:
    long = {
        f"{file.relative_to(CLONE)}::{name}"
        for file in FILES for name, lines in functions(file) if lines > LINES
    }  # fmt: skip
    assert sorted(long - FUNCTIONS) == [], f"split what has more than {LINES} lines"
