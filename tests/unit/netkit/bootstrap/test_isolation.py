"""Programs of a bootstrap: their errors in a line, and nothing left of those that are cut short."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from netkit.bootstrap import isolation
from netkit.errors import KernelError


def plain(script: str, log: isolation.Say = lambda line: None) -> str:
    return isolation.run(["sh", "-c", script], log, alone=())


def test_each_line_is_told_as_it_comes_and_all_are_returned() -> None:
    told: list[str] = []
    assert plain("echo one; echo two >&2", told.append) == "one\ntwo"
    assert told == ["one", "two"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'E: Invalid Release file'; echo 'I: cleaning up'; exit 1", "Invalid Release file"),
        ("echo last words; echo; exit 3", "last words"),
        ("exit 4", "exit code 4"),
    ],
)
def test_an_error_is_the_line_that_says_why(script: str, why: str) -> None:
    with pytest.raises(KernelError, match=f"^sh failed: {why}$"):
        plain(script)


def test_programs_see_no_variables_of_this_shell_but_proxies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://x")
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    seen = plain("env")
    assert "DOCKER_HOST" not in seen
    assert "http_proxy=http://10.0.0.1:3128" in seen
    assert plain("umask") == "0022"


@pytest.mark.root
@pytest.mark.slow
def test_a_run_that_is_interrupted_leaves_no_process_and_no_mount(tmp_path: Path) -> None:
    """As debootstrap does: it mounts, and has children that ignore signals."""
    script = (
        f"mount -t tmpfs none {tmp_path} && touch {tmp_path}/seen\n"
        "trap '' INT TERM HUP; (trap '' INT TERM; exec sleep 987654) & echo ready; wait"
    )

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isolation.run(["sh", "-c", script], interrupt)
    assert subprocess.run(["pgrep", "-f", "^sleep 987654"], check=False).returncode == 1
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not list(tmp_path.iterdir())


@pytest.mark.root
@pytest.mark.slow
def test_a_killed_client_takes_all_of_it_along() -> None:
    code = (
        "from netkit.bootstrap.isolation import run\n"
        "run(['sh', '-c', 'echo ready; exec sleep 987653'], print)"
    )
    process = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while subprocess.run(["pgrep", "-f", "^sleep 987653"], check=False, stdout=-3).returncode == 0:
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.02)
