"""What waits for files in a process with many of them does so by poll(2)."""

from __future__ import annotations

import ast
import fcntl
import os
import resource
import socket
from pathlib import Path

import pytest

from netkit.testing.waiting import eventually, readable, writable
from tests.stages import CLONE

FOLDERS = ("netkit/testing", "netkit/lab", "tests")
# They run in a process of their own, with few files.
ALONE = {"tests/torture/traffic.py", "tests/torture/residents.py"}


def test_a_file_beyond_what_select_takes_is_waited_for() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1500:
        pytest.skip("this process may have no more than 1,500 files")
    near, far = socket.socketpair()
    with near, far:
        high = fcntl.fcntl(near, fcntl.F_DUPFD_CLOEXEC, 1500)
        try:
            assert writable(high, 0)
            assert not readable(high, 0)
            far.send(b"x")
            assert readable(high, 1)
        finally:
            os.close(high)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_calls_select(folder: str) -> None:
    files = {str(f.relative_to(CLONE)): f for f in (CLONE / folder).rglob("*.py")}
    assert not {name for name, file in files.items() if _selects(file)} - ALONE


def _selects(file: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr == "select"
        and isinstance(node.value, ast.Name) and node.value.id == "select"
        for node in ast.walk(ast.parse(file.read_text()))
    )  # fmt: skip


def test_what_comes_at_last_is_returned_and_errors_until_then_are_ignored() -> None:
    answers = iter([KeyError("no"), "", "yes"])

    def found() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert eventually(found, pause=0, ignored=(KeyError,)) == "yes"


def test_what_never_comes_fails_with_its_name_or_its_last_error() -> None:
    with pytest.raises(AssertionError, match=r"a host not within 0\.01 s"):
        eventually(lambda: "", 0.01, 0.001, what="a host")
    with pytest.raises(KeyError, match="missing"):
        eventually(lambda: {}["missing"], 0.01, 0.001, ignored=(KeyError,))
    with pytest.raises(KeyError):  # at once
        eventually(lambda: {}["missing"], ignored=(IndexError,))
