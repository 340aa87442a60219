"""script/demo and bench as a newcomer runs them: twice, after a crash, and removed again."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import missing
from tests.engine.daemon import KIND

CLONE = Path(__file__).resolve().parents[2]
DEMO_RUN, DEMO_ROOT = Path("/run/netkit-demo"), Path("/var/lib/netkit-demo")

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    pytest.mark.skipif(KIND != "netkitd", reason="about netkit's own scripts"),
]


def script(*argv: str, check: bool = True) -> str:
    done = subprocess.run(
        [str(CLONE / argv[0]), *argv[1:]],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd="/",
    )
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def host_network() -> str:
    """Return links, addresses, routes and rules of the root namespace, which must not change."""
    commands = (
        ["ip", "-o", "addr"],
        ["ip", "route"],
        ["iptables-save"],
        ["nft", "list", "ruleset"],
    )
    text = "".join(
        subprocess.run(c, capture_output=True, text=True, check=False).stdout for c in commands
    )
    return re.sub(r"\[\d+:\d+\]|^#.*$|valid_lft \S+", "", text, flags=re.M)


def daemon_pid() -> int:
    mark = str(DEMO_RUN).encode()
    (pid,) = (
        int(proc.name)
        for proc in Path("/proc").glob("[0-9]*")
        if mark in (cmdline := _cmdline(proc))
        and b"netkitd" in cmdline
        and b"conmon" not in cmdline
    )
    return pid


def _cmdline(proc: Path) -> bytes:
    try:
        return (proc / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def demo() -> Iterator[None]:
    """The demo's names are fixed: one test run at a time, and not while a user has it running."""
    with open("/run/lock/netkit-demo-test", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if DEMO_RUN.exists() or DEMO_ROOT.exists():
            pytest.skip("a demo stands on this machine: script/demo --down first")
        yield
        script("script/demo", "--down")


def check_demo(output: str) -> None:
    assert output.count("Hello from a container on docker0") == 2  # by the port, by the address
    parts = ("web", "client", "172.17.0.", "docker0", "8080", "DELIVERED", "script/demo --down")
    for part in parts:
        assert part in output, part


def test_the_demo_works_twice_after_a_crash_and_leaves_nothing(demo: None) -> None:
    before = host_network()
    check_demo(script("script/demo"))
    check_demo(script("script/demo"))
    os.kill(daemon_pid(), signal.SIGKILL)
    check_demo(script("script/demo"))
    os.kill(daemon_pid(), signal.SIGKILL)
    script("script/demo", "--down")
    assert host_network() == before
    assert not DEMO_RUN.exists()
    assert not DEMO_ROOT.exists()
    assert (
        "nk-demo"
        not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    )
    assert "netkit-demo" not in Path("/proc/self/mountinfo").read_text()
    left = [p for p in Path("/proc").glob("[0-9]*") if b"netkit-demo" in _cmdline(p)]
    assert not left
    assert "nothing to remove" in script("script/demo", "--down")


def test_a_demo_whose_every_process_was_killed_can_be_removed(demo: None) -> None:
    script("script/demo")
    for proc in Path("/proc").glob("[0-9]*"):
        if b"netkit-demo" in _cmdline(proc):
            os.kill(int(proc.name), signal.SIGKILL)
    script("script/demo", "--down")
    assert "netkit-demo" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("name", ["setup", "demo", "test"])
def test_an_unknown_argument_is_refused_in_one_line(name: str) -> None:
    output = script(f"script/{name}", "--nonsense", check=False).strip()
    assert "nonsense" in output
    assert len(output.splitlines()) == 1


def test_bench_prints_a_table() -> None:
    ran = subprocess.run(
        [str(CLONE / ".venv/bin/python"), "-m", "bench", "--quick", "--peers", "netkit",
         "--only", "network"],
        capture_output=True, text=True, timeout=200, cwd=CLONE, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^network connect +ms +[\d.]+", ran.stdout, re.M)


def test_a_second_demo_at_the_same_time_is_refused_in_a_sentence() -> None:
    with open("/run/lock/netkit-demo", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["script/demo"], cwd=CLONE, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 1
    assert done.stderr == (
        "demo: another script/demo is running: there is one demo a machine; wait for it to end\n"
    )
