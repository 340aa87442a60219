"""What is imported is declared in pyproject.toml, and what is declared is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest

from tests.places import ROOT

pytestmark = pytest.mark.slow
OURS = {"netkit", "runtime", "plugins", "tests", "bench", "labs", "netkit_hub"}  # docs/examples/hub
IMPORT = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)
PACKAGES = ("netkit", "runtime", "plugins")
TESTS = ("tests", "bench", "labs")
# Imported by a package that is installed without the extra it is in, and why that is right.
IN_EXTRAS = {
    "pytest": "netkit/lab/plugin.py: only pytest loads it",
    "scapy": "netkit/testing: frames in tests of labs, in the extra test as pytest is",
}
IN_IMAGES = ROOT / "labs/16-django/site"  # runs in a container, where Debian's Django is
# Declared, and run or loaded by name instead of imported.
BY_NAME = {
    "tox": "tox.ini",
    "pytest-timeout": "a plugin of pytest: `timeout` in pyproject.toml",
    "mypy": "script/test types",
    "ruff": "script/test lint",
    "import-linter": "script/test lint",
}


@cache
def imported(*folders: str) -> dict[str, str]:
    """Distributions that modules below these folders import, each with one of the modules."""
    names = packages_distributions()
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.is_relative_to(IN_IMAGES):
                continue
            for top in _foreign(path.read_text()):
                dist = names.get(top, [top])[0]
                found.setdefault(_normal(dist), str(path.relative_to(ROOT)))
    return found


def _foreign(text: str) -> set[str]:
    """Top-level modules of other projects."""
    if not set(IMPORT.findall(text)) - OURS - sys.stdlib_module_names:
        return set()  # most modules: parsing all of them takes seconds
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.partition(".")[0])
    return modules - OURS - sys.stdlib_module_names


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def declared() -> dict[str, frozenset[str]]:
    """Distributions by extra; "" has what every installation gets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: frozenset(_normal(re.split(r"[\s<>=!~;\[]", text, maxsplit=1)[0]) for text in texts)
        for extra, texts in lists.items()
    }


def test_what_the_packages_import_is_installed_with_them() -> None:
    missing = imported(*PACKAGES).keys() - declared()[""] - IN_EXTRAS.keys()
    assert not missing, {name: imported(*PACKAGES)[name] for name in missing}


def test_what_the_tests_import_is_in_the_extra_test() -> None:
    missing = imported(*TESTS).keys() - declared()[""] - declared()["test"]
    assert not missing, {name: imported(*TESTS)[name] for name in missing}


def test_nothing_is_installed_that_no_package_imports() -> None:
    assert declared()[""] <= imported(*PACKAGES).keys()


@pytest.mark.parametrize("extra", sorted(declared().keys() - {""}))
def test_nothing_is_in_an_extra_that_is_not_used(extra: str) -> None:
    used = imported(*PACKAGES).keys() | imported(*TESTS).keys() | BY_NAME.keys()
    assert declared()[extra] <= used
    assert not declared()[extra] & declared()[""], "declared twice"


def test_the_reasons_are_still_needed() -> None:
    extras = frozenset().union(*(names for extra, names in declared().items() if extra))
    assert IN_EXTRAS.keys() <= imported(*PACKAGES).keys() & extras
    assert BY_NAME.keys() <= extras
