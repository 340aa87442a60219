from __future__ import annotations

import os
import subprocess
import time

import pytest

from netkit.kernel import program

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


def test_one_that_hangs_is_killed_and_one_that_is_missing_is_said_to_be() -> None:
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run("exec sleep 60", timeout=0.1)
    assert time.monotonic() - begin < 30
    with pytest.raises(FileNotFoundError):
        program.run(["/no/such/program"], timeout=1, env=ENV)


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    run("true")
    assert len(os.listdir("/proc/self/fd")) == len(before)
