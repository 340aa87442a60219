"""What is true of a driver only is asked of the driver: nothing is decided by a driver's name.

Found by syntax tree in netkit/ and runtime/ (the CLI and labs excepted: a flag's default and a
lab's file are written in users' words): comparisons and look-ups of names of drivers, and
constants that hold such names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.places import ROOT

NAMES = {e.name for e in entry_points(group="netkit.drivers")} | {"weave"}
# Names that are Docker's for other things as well: networks, network modes, log drivers, a state
# of health.  With these only what is about a driver counts.
AMBIGUOUS = {"bridge", "host", "none"}
EXCEPTIONS = {
    ("netkit/spec.py", "DEFAULT_DRIVER = 'bridge'"): "the Engine API's default",
    ("netkit/network/link_resync.py", "DRIVER = 'bridge'"): "goes with the watcher of links",
    ("netkit/diagnose/trace/advice.py", "wall.driver == 'none'"): "a firewall's",
    (
        "runtime/network/firewall.py",
        "self._backend().get('Driver') != 'none'",
    ): "a firewall's",
    ("runtime/api/routes/containers.py", "given.strip() not in {b'', b'{}', b'null'}"): "JSON",
}


def modules() -> Iterator[Path]:
    for room in ("netkit", "runtime"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.relative_to(ROOT).parts[:2] not in {("netkit", "cli"), ("netkit", "lab")}:
                yield path


def named(node: ast.AST) -> set[str]:
    """Names of drivers among a node's constants, and those of its elements."""
    consts = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
    return {c for c in consts if isinstance(c, str)} & NAMES


def about_a_driver(nodes: list[ast.expr], aliases: set[str]) -> bool:
    texts = [ast.unparse(n) for n in nodes]
    return any("driver" in t.lower() for t in texts) or not aliases.isdisjoint(texts)


def aliases(tree: ast.AST) -> set[str]:
    """Variables that are assigned the name of a driver: `kind = record.spec.driver`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = [*zip(target.elts, node.value.elts, strict=True)]
                found |= {ast.unparse(t) for t, v in pairs if ast.unparse(v).endswith(".driver")}
    return found


def decided_by_name(text: str) -> Iterator[str]:
    tree = ast.parse(text)
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = named(node)
        elif isinstance(node, ast.Match):
            sides = [node.subject]
            names = {n for case in node.cases for n in named(case.pattern)}
        elif isinstance(node, ast.Subscript):
            sides = [node.value, node.slice]
            names = named(node.slice) if not isinstance(node.slice, ast.Slice) else set()
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node in tree.body:
            sides = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value
            if isinstance(value, ast.Call) and value.args:
                value = value.args[0]
            constant = isinstance(value, ast.Constant | ast.Set | ast.Tuple | ast.List)
            names = named(value) if value is not None and constant else set()
        else:
            continue
        if names - AMBIGUOUS or (names and about_a_driver(sides, known)):
            yield ast.unparse(node)


def test_no_module_of_the_core_or_the_engine_decides_by_the_name_of_a_driver() -> None:
    found = {
        (str(path.relative_to(ROOT)), line)
        for path in modules()
        for line in decided_by_name(path.read_text())
    }
    assert sorted(found - EXCEPTIONS.keys()) == []


@pytest.mark.parametrize(
    "text",
    [
        "if record.spec.driver == 'host': pass",
        "if 'ovs' != name: pass",
        "kind = record.spec.driver\nif kind in {'null', 'host'}: pass",
        "mode, kind = c.mode, record.spec.driver\nx = kind == 'bridge'",
        "SINGLE = frozenset({'host', 'null'})",
        "OVS: str = 'ovs'",
        "DRIVER = 'bridge'",
        "x = drivers['bridge']",
        "match entry.net.driver:\n    case 'host': pass",
    ],
)
def test_a_decision_by_name_is_found(text: str) -> None:
    assert [*decided_by_name(text)]


@pytest.mark.parametrize(
    "text",
    [
        "if c.host_config.network_mode == 'host': pass",
        "if health in {'none', 'healthy'}: pass",
        "DEFAULT = 'bridge'",
        "if traits.needs_host_namespace: pass",
    ],
)
def test_names_of_other_things_are_not(text: str) -> None:
    assert [*decided_by_name(text)] == []
