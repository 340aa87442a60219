from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from netkit.kernel import run as program

ENV = {"PATH": os.defpath, "WORD": "given"}


def run(script: str, text: str = "", timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
    return program.run(["sh", "-c", script], text, timeout=timeout, env=ENV)


def test_what_it_reads_what_it_prints_and_how_it_ends() -> None:
    done = run('cat; echo "$WORD" >&2; exit 3', "much\n" * 50_000)
    assert (done.returncode, done.stdout, done.stderr) == (3, "much\n" * 50_000, "given\n")
    assert run("kill -9 $$").returncode == -9


def test_one_that_reads_nothing_and_one_that_prints_no_text() -> None:
    assert run("true", "x" * 1_000_000).returncode == 0
    assert run(r"printf 'a\377b'").stdout == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.slow
def test_one_that_hangs_is_killed_and_one_that_is_missing_is_reported() -> None:
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run("exec sleep 60", timeout=0.1)
    assert time.monotonic() - begin < 30
    with pytest.raises(FileNotFoundError):
        program.run(["/no/such/program"], timeout=1, env=ENV)


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    run("true")
    with closing(standby("cat; exit 1")) as waiting:
        assert waiting.run("some", timeout=20).returncode == 1
    assert set(os.listdir("/proc/self/fd")) <= set(before)


def standby(script: str) -> program.PrestartedProgram:
    return program.PrestartedProgram(["sh", "-c", script], ENV)


def test_the_next_one_waits_before_there_is_anything_to_do(tmp_path: Path) -> None:
    with closing(standby(f"echo >>{tmp_path}/started; cat; echo bad >&2; exit 3")) as waiting:
        for n, text in enumerate(("one\n", "two\n"), 2):
            done = waiting.run(text, timeout=20)
            assert (done.returncode, done.stdout, done.stderr) == (3, text, "bad\n")
            eventually(lambda n=n: len((tmp_path / "started").read_text()) == n)


def test_what_does_not_fit_into_a_pipe_and_one_that_reads_nothing() -> None:
    with closing(standby("cat")) as waiting:
        assert waiting.run("much\n" * 50_000, timeout=20).stdout == "much\n" * 50_000
    with closing(standby("exit 4")) as waiting:
        for _ in range(3):
            assert waiting.run("x" * 30_000, timeout=20).returncode == 4


def test_one_that_was_killed_while_it_waited_is_replaced() -> None:
    with closing(standby("echo $$; exec cat")) as waiting:
        first = waiting.run("", timeout=20).stdout
        assert waiting._next is not None
        waiting._next.process.kill()
        waiting._next.process.wait()
        assert waiting.run("", timeout=20).stdout not in {"", first}


@pytest.mark.slow
def test_a_standby_that_hangs_is_killed_and_the_next_is_none_the_worse() -> None:
    with closing(standby("read word; test $word = go || exec sleep 60")) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.run("stay\n", timeout=0.2)
        assert waiting.run("go\n", timeout=20).returncode == 0


@pytest.mark.slow
def test_its_end_is_the_end_of_ours(tmp_path: Path) -> None:
    """Killed with -9, we leave no process behind."""
    body = (
        "import os, sys; from netkit.kernel.run import PrestartedProgram;"
        "argv = ['sh', '-c', 'echo $$ >>$0; exec cat', sys.argv[1]];"
        "s = PrestartedProgram(argv, dict(os.environ));"
        "s.run('', timeout=20); sys.stdin.read()"
    )
    pids = tmp_path / "pids"
    ours = subprocess.Popen([sys.executable, "-c", body, str(pids)], stdin=subprocess.PIPE)
    try:
        eventually(lambda: pids.exists() and pids.read_text().count("\n") == 2)
    finally:
        ours.kill()
        ours.communicate()
    waiting = int(pids.read_text().split()[1])
    eventually(lambda: not Path(f"/proc/{waiting}/exe").exists())


def test_ours_is_what_was_given_something_to_do() -> None:
    with closing(standby("echo $$; exec cat")) as waiting:
        first = int(waiting.run("", timeout=20).stdout)
        assert waiting._next is not None
        second = waiting._next.process.pid
        assert program.ours(first)
        assert not program.ours(second)


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
