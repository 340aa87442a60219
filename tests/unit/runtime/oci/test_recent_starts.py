"""A signal right after the start waits until the command can take it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from runtime.oci.process import Process, status
from runtime.oci.recent_starts import EXEC, SETTLED, RecentStarts

TERM, KILL = 15, 9


class Time:
    """A clock that advances only where a caller sleeps; then `during` is called."""

    def __init__(self) -> None:
        self.now = 100.0
        self.least = 0.0
        self.during: Callable[[], object] = lambda: None

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, self.least)
        self.during()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def recent(time: Time) -> RecentStarts:
    return RecentStarts(lambda: time.now, time.sleep)


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[bytes]]:
    """A control file that carries out what is written to it."""
    process = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def asked(shell: subprocess.Popen[bytes], line: str) -> bytes:
    assert shell.stdin
    assert shell.stdout
    shell.stdin.write(line.encode())
    return shell.stdout.readline()


def of(shell: subprocess.Popen[bytes]) -> Process:
    asked(shell, "echo\n")  # so that it is sh, and no longer a copy of us
    process = Process.of(shell.pid)
    assert process
    return process


def test_a_signal_waits_for_the_command_and_for_its_handler(
    recent: RecentStarts, time: Time, shell: subprocess.Popen[bytes]
) -> None:
    process = of(shell)
    recent.begin(process)
    steps = iter([
        lambda: None,
        lambda: asked(shell, "exec busybox sh -c 'echo; while read -r x; do eval \"$x\"; done'\n"),
        lambda: asked(shell, "trap 'exit 5' TERM; echo\n"),
    ])  # fmt: skip

    def step() -> None:
        next(steps)()

    time.during = step
    recent.wait(process, TERM)
    assert next(steps, None) is None
    assert int(status(process.pid)["SigCgt"], 16) & 1 << (TERM - 1)
    assert time.now < 100 + SETTLED


def test_what_never_execs_or_never_catches_it_is_waited_for_no_longer_than_that(
    recent: RecentStarts, time: Time, shell: subprocess.Popen[bytes]
) -> None:
    process = of(shell)
    time.least = SETTLED / 2
    recent.begin(process)
    for _ in range(2):
        recent.wait(process, TERM)
        assert time.now == pytest.approx(100 + EXEC + SETTLED, abs=SETTLED / 2)


def test_nothing_waits_that_need_not(
    recent: RecentStarts, time: Time, shell: subprocess.Popen[bytes]
) -> None:
    process = of(shell)
    recent.wait(process, TERM)  # started by a daemon before this one
    recent.begin(process)
    recent.wait(process, KILL)
    shell.kill()
    shell.wait()
    recent.wait(process, TERM)
    assert time.now == 100
