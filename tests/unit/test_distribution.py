"""The distribution has a name of its own: `netkit` on PyPI is another project."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata

import pytest

from tests.stages import CLONE

# pip, pipx, uv, a requirement with extras, or a look-up by the other project's name
WRONG = re.compile(
    r"(?:\bpipx? +(?:install|download|show|uninstall)|\buv +(?:pip +)?(?:install|add))\b"
    r"[^\n`]*[ '\"]netkit(?![-\w/])"
    r"|\bnetkit\[(?:test|dev)"
    r"|(?:\bversion|\bdistribution|\brequires|\bmetadata)\([\"']netkit[\"']\)"
    r"|^(?:requires|dependencies) *=[^\n]*[\"']netkit[\"'<>=~]"
)
PARTS = ("netkit", "runtime", "plugins", "tests", "docs", "script", "labs", "bench", "findings")
BINARY = {".pyc", ".so", ".tar", ".gz", ".zst", ".xz", ".png"}
# What takes a former name of the distribution out of .venv, and this.
ALLOWED = {"script/setup", "tests/unit/test_distribution.py"}


def test_the_distribution_is_called_netkit_sdn_and_found_by_that_name() -> None:
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    assert project["name"] == "netkit-sdn"
    assert metadata.version("netkit-sdn") == project["version"]
    commands = metadata.distribution("netkit-sdn").entry_points.select(group="console_scripts")
    assert {entry.name for entry in commands} == {"netkit", "netkit-cni", "netkitd", "weave"}


def test_nothing_that_is_fetched_or_built_is_in_the_repository() -> None:
    """By `git add -f`, or before .gitignore named it; no file of ours is so large."""
    if not (CLONE / ".git").exists():
        pytest.skip("not a clone: there is no .git")
    git = ["git", "-C", str(CLONE), "-c", f"safe.directory={CLONE}", "ls-files", "-z"]
    ignored = subprocess.run([*git, "-ci", "--exclude-standard"], capture_output=True, check=True)
    assert ignored.stdout == b""
    tracked = subprocess.run(git, capture_output=True, check=True).stdout.decode().split("\0")
    files = [CLONE / name for name in tracked if name]
    assert len(files) > 1000
    large = [f for f in files if f.is_file() and f.stat().st_size > 1 << 19]
    assert large == []


@pytest.mark.slow
def test_nothing_says_to_install_another_project() -> None:
    files = [f for part in PARTS for f in (CLONE / part).rglob("*") if f.suffix not in BINARY]
    files += [f for f in CLONE.iterdir() if f.suffix in {".md", ".toml", ".ini"}]
    wrong = {}
    for file in files:
        name = str(file.relative_to(CLONE))
        if name in ALLOWED or "__pycache__" in name or not file.is_file():
            continue
        lines = [w for w in file.read_text(errors="replace").splitlines() if "netkit" in w]
        if found := [line for line in lines if WRONG.search(line)]:
            wrong[name] = found
    assert wrong == {}


def test_the_search_finds_what_it_is_for() -> None:
    for text in (
        "pip install netkit", "run pip install --user 'netkit'", "pipx install netkit",
        "uv pip install netkit==3", "install netkit[test]", 'metadata.version("netkit")',
        'dependencies = ["netkit"]', "pip show netkit.",
    ):  # fmt: skip
        assert WRONG.search(text), text
    for text in (
        "pip install netkit-sdn", "pip install -e docs/examples/hub", "pip install ./netkit/",
        'dependencies = ["netkit-sdn"]', 'entry_points(group="netkit.drivers")',
        "the netkit driver", "pip install -e netkit-hub",
    ):  # fmt: skip
        assert not WRONG.search(text), text
