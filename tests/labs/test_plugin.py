"""The pytest plugin: available when it is used, and without cost when it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.labs.conftest import traces

TWO = """
underlay: {lan: {}}
hosts:
  h1:
    interfaces: {eth0: {segment: lan, address: 10.0.0.1/24}}
    containers: {c1: {command: httpd -f -h /www}, c2: {}}
"""


def pytest_in(folder: Path, source: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder where only the installed plugin knows netkit."""
    (folder / "test_it.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p",
         "no:cacheprovider", *flags, "test_it.py"],
        capture_output=True, text=True, timeout=120, cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
    )  # fmt: skip


def test_a_lab_for_a_test_beside_it_with_taps_and_packets(fresh: Callable[[str], Path]) -> None:
    folder = fresh(TWO)
    done = pytest_in(folder.parent, f"""
import pytest
from scapy.layers.inet import IP, UDP

pytestmark = pytest.mark.lab({folder.name!r})
seen = []

def test_reach(lab):
    seen.append(lab.name)
    assert lab.c2.can_reach(lab.c1, "tcp/80")
    assert not lab.c2.can_reach(lab.c1, "tcp/81", within=0)

def test_packets(lab):
    assert seen == [lab.name], "one lab for the module"
    with lab.c2.tap("eth0") as tap:
        lab.c1.send(IP(dst=lab.c2.ip) / UDP(dport=53) / b"hello")
        assert tap.saw(UDP(dport=53) / b"hello")

def test_that_fails(lab):
    assert lab.c2.can_reach(lab.c1, "tcp/81", within=0)

def test_of_an_unknown_name(lab):
    assert lab.c3

def test_name():
    print("LAB", seen[0])
    assert 0
""")  # fmt: skip
    assert "3 failed, 2 passed" in done.stdout, done.stdout
    assert "c2 -> c1 tcp/81" in done.stdout, "a failure shows the report"
    assert "has no 'c3' (there are: h1, c1, c2)" in done.stdout
    name = done.stdout.partition("LAB ")[2].split()[0]
    assert traces(name) == []


def test_a_test_without_a_lab_is_shown_how_to_name_one(tmp_path: Path) -> None:
    done = pytest_in(tmp_path, "def test_x(lab): pass")
    assert 'the lab fixture needs a mark: @pytest.mark.lab("labs/12-docker0")' in done.stdout


def test_who_does_not_use_it_does_not_pay_for_it(tmp_path: Path) -> None:
    done = pytest_in(tmp_path, """
import sys
def test_x():
    loaded = {m for m in sys.modules if m.split(".")[0] in ("scapy", "yaml", "click", "pyroute2")}
    assert not loaded
    assert {m for m in sys.modules if m.startswith("netkit")} == {
        "netkit", "netkit.lab", "netkit.lab.plugin", "netkit.testing", "netkit.testing.plugin"}
""")  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout


def test_a_fixture_of_the_same_name_is_the_users_own(tmp_path: Path) -> None:
    done = pytest_in(tmp_path, """
import pytest
@pytest.fixture
def lab(): return 7
def test_x(lab): assert lab == 7
""")  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout
