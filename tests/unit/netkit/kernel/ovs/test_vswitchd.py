"""ovs-vswitchd is found wherever it listens."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.kernel.ovs.vswitchd import Vswitchd


@contextmanager
def _listening(path: Path, version: str, reply: bytes = b"") -> Iterator[None]:
    """A control socket that answers every request with a version, or `reply`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    if not connection.recv(4096):
                        return
                    encoded = json.dumps({"id": 0, "result": version}).encode()
                    connection.sendall(reply or encoded)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
                last.connect(str(path))
            thread.join(10)


@pytest.mark.parametrize(
    "name", ["ovs-vswitchd.77.ctl", "ovs-vswitchd.ctl", "ovs-vswitchd.9.ctl", "switch.ctl"]
)
@pytest.mark.parametrize("pid", ["77", ""])
def test_it_is_found_with_or_without_its_pid_file(tmp_path: Path, name: str, pid: str) -> None:
    if pid:
        (tmp_path / "ovs-vswitchd.pid").write_text(f"{pid}\n")
    with _listening(tmp_path / name, "ovs-vswitchd (Open vSwitch) 3.1.0"):
        assert Vswitchd(str(tmp_path)).alive


def test_one_that_was_killed_does_not_hide_the_next(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "ovs-vswitchd.1.ctl"))
    assert not Vswitchd(str(tmp_path)).alive
    with _listening(tmp_path / "ovs-vswitchd.2.ctl", "ovs-vswitchd (Open vSwitch) 3.1.0"):
        assert Vswitchd(str(tmp_path)).alive


def test_another_daemon_beside_is_not_taken_for_it(tmp_path: Path) -> None:
    other = _listening(tmp_path / "other.ctl", "ovn-controller 22.03")
    with other, pytest.raises(KernelError, match="not running: no control socket"):
        Vswitchd(str(tmp_path)).ask("version")


def test_a_socket_that_another_daemon_left_is_not_named_as_its(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "ovn-controller.92.ctl"))
    with pytest.raises(KernelError, match="not running: no control socket"):
        Vswitchd(str(tmp_path)).ask("version")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b'{"id": 0, "result": "cut', "closed before its reply was complete"),
        (b"[1, 2]", "no reply of JSON-RPC"),
        (b'{"id": 0}', "no reply of JSON-RPC"),
        (b'{"id": 0, "result": "' + b"x" * 400, "longer than 300 bytes"),
    ],
)
def test_a_reply_that_is_none_is_an_error_at_once(
    tmp_path: Path, reply: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netkit.kernel.ovs.vswitchd.LONGEST", 300)
    listening = _listening(tmp_path / "ovs-vswitchd.ctl", "", reply)
    with listening, pytest.raises(KernelError, match=words):
        Vswitchd(str(tmp_path)).ask("version")


def test_one_that_locks_its_pid_file_is_known_to_run_without_being_asked(tmp_path: Path) -> None:
    path = tmp_path / "ovs-vswitchd.pid"
    path.write_text("1\n")
    assert not Vswitchd(str(tmp_path)).runs  # left by one that was killed
    hold = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+'); "
        "fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline()
        assert Vswitchd(str(tmp_path)).runs
        holder.stdin.close()
    assert not Vswitchd(str(tmp_path)).runs
    with _listening(tmp_path / "ovs-vswitchd.1.ctl", "ovs-vswitchd (Open vSwitch) 3.1.0"):
        assert Vswitchd(str(tmp_path)).runs  # without the lock it is asked
