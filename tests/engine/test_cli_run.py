"""`netkit run`, exec, start, attach and their streams against an engine."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.daemon import Engine, fresh, netkit
from tests.engine.terminal import CTRL_P, CTRL_Q, Terminal

pytestmark = [pytest.mark.root, pytest.mark.engine]

COUNT_FOREVER = "trap 'echo caught; exit 9' TERM INT; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def popen(engine: Engine) -> Callable[..., subprocess.Popen[str]]:
    def start(*args: str, **more: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*netkit(), "-H", engine.host, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=engine.cli_environment(),
            **more,  # type: ignore[call-overload]
        )

    return start


def on_terminal(engine: Engine, *args: str, size: tuple[int, int] = (24, 80)) -> Terminal:
    argv = [*netkit(), "-H", engine.host, *args]
    return Terminal(argv, env=engine.cli_environment() | {"TERM": "xterm"}, size=size)


def cooked(terminal: Terminal) -> bool:
    """The terminal echoes and edits lines, as a shell expects it."""
    flags = termios.tcgetattr(terminal._master)[3]
    return bool(flags & termios.ICANON) and bool(flags & termios.ECHO)


def test_output_streams_and_exit_code(engine: Engine) -> None:
    done = engine.netkit(
        "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("busybox", "/nosuch"), 127),
        (("busybox", "nosuch"), 127),
        (("busybox", "/etc"), 126),
        (("busybox", "/not-executable"), 126),
        (("--network", "nosuchnet", "busybox", "true"), 125),
        (("--nosuchflag", "busybox"), 125),
        (("--pull", "never", "nosuchimage"), 125),
        (("busybox", "sh", "-c", "exit 200"), 200),
    ],
)
def test_exit_codes_are_dockers(engine: Engine, argv: tuple[str, ...], code: int) -> None:
    done = engine.netkit("run", "--rm", *argv, check=False)
    assert done.returncode == code, done.stderr
    assert code == 200 or done.stderr.startswith("netkit: ") or "nosuchflag" in done.stderr


def test_stdin_reaches_the_program_and_ends(engine: Engine) -> None:
    done = engine.netkit(
        "run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo end", input="a\nb\n"
    )
    assert done.stdout == "a\nb\nend\n"


def test_much_data_goes_both_ways_at_once(engine: Engine, tmp_path: Path) -> None:
    """Neither pipe may fill up while we wait for the other."""
    data = os.urandom(1 << 20) * 40
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(data)
    with source.open("rb") as given, target.open("wb") as taken:
        done = subprocess.run(
            [*netkit(), "-H", engine.host, "run", "-i", "--rm", "busybox", "cat"],
            stdin=given, stdout=taken, env=engine.cli_environment(), timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(data).digest()


def test_detached_run_prints_the_id_and_writes_it(engine: Engine, tmp_path: Path) -> None:
    name, ids = fresh("c"), tmp_path / "cid"
    done = engine.netkit(
        "run", "-d", "--name", name, "--cidfile", str(ids), "busybox", "sleep", "1000"
    )
    ident = engine.inspect(name)["Id"]
    assert done.stdout == f"{ident}\n"
    assert ids.read_text() == ident
    again = engine.netkit("run", "--cidfile", str(ids), "busybox", check=False)
    assert again.returncode == 125
    assert "container ID file found" in again.stderr


def test_a_cidfile_is_not_left_when_nothing_was_created(engine: Engine, tmp_path: Path) -> None:
    ids = tmp_path / "cid"
    engine.netkit("run", "--cidfile", str(ids), "--pull=never", "nosuchimage", check=False)
    assert not ids.exists()


def test_rm_leaves_nothing(engine: Engine) -> None:
    name = fresh("c")
    engine.netkit("run", "--rm", "--name", name, "busybox", "true")
    assert engine.out("ps", "-aq") == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_program(
    engine: Engine, popen: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = popen("run", "--rm", "busybox", "sh", "-c", COUNT_FOREVER)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == "caught\n"
    assert process.returncode == 9


def test_without_proxy_a_signal_ends_the_client_only(
    engine: Engine, popen: Callable[..., subprocess.Popen[str]]
) -> None:
    name = fresh("c")
    process = popen(
        "run", "--sig-proxy=false", "--name", name, "busybox", "sh", "-c", COUNT_FOREVER
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM
    assert engine.state(name)["Running"]


def test_exec_streams_stdin_environment_and_code(engine: Engine) -> None:
    name = engine.sleeper()
    script = "cat; echo $A $PWD; echo err >&2; exit 3"
    done = engine.netkit(
        "exec", "-i", "-e", "A=1", "-w", "/tmp", name, "sh", "-c", script, input="in\n", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "in\n1 /tmp\n", "err\n")
    assert engine.netkit("exec", "-d", name, "touch", "/made").stdout == ""
    deadline = time.monotonic() + 60
    while "/made" not in engine.out("diff", name):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_exec_of_what_is_not_there(engine: Engine) -> None:
    assert engine.netkit("exec", "nosuch", "true", check=False).returncode == 1
    assert engine.netkit("exec", engine.sleeper(), "nosuch", check=False).returncode in (126, 127)


def test_logs_parts_the_streams_and_follows_to_the_end(
    engine: Engine, popen: Callable[..., subprocess.Popen[str]]
) -> None:
    name = engine.up("busybox", "sh", "-c", "echo 1; echo 2 >&2; sleep 2; echo 3; exit 4")
    process = popen("logs", "-f", name)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("1\n3\n", "2\n", 0)
    assert engine.netkit("logs", "--tail", "1", name).stdout == "3\n"
    assert engine.netkit("wait", name).stdout == "4\n"


def test_start_attached_gives_output_and_code(engine: Engine) -> None:
    name = fresh("c")
    engine.netkit("create", "--name", name, "-i", "busybox", "sh", "-c", "cat; exit 5")
    done = engine.netkit("start", "-ai", name, input="hello\n", check=False)
    assert (done.returncode, done.stdout) == (5, "hello\n")


def test_a_killed_program_has_the_code_of_its_signal(
    engine: Engine, popen: Callable[..., subprocess.Popen[str]]
) -> None:
    name = fresh("c")
    process = popen("run", "--name", name, "busybox", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    process.stdout.readline()
    engine.netkit("kill", name)
    process.communicate(timeout=20)
    assert process.returncode == 137


# on a terminal


def test_a_shell_on_a_terminal(engine: Engine) -> None:
    with on_terminal(engine, "run", "-it", "--rm", "busybox", "sh", size=(33, 99)) as terminal:
        terminal.expect(rb"# ")
        terminal.send(b"stty size\n")
        terminal.expect(rb"33 99")
        terminal.resize(40, 120)
        terminal.answered(b"stty size\n", rb"40 120")
        terminal.send(b"exit 5\n")
        assert terminal.wait() == 5
        assert cooked(terminal)


def test_exec_on_a_terminal(engine: Engine) -> None:
    name = engine.sleeper()
    with on_terminal(engine, "exec", "-it", name, "sh", size=(30, 70)) as terminal:
        terminal.expect(rb"# ")
        terminal.send(b"stty size; exit 7\n")
        terminal.expect(rb"30 70")
        assert terminal.wait() == 7
        assert cooked(terminal)


def test_detach_keys_leave_it_running_and_attach_comes_back(engine: Engine) -> None:
    name = fresh("c")
    with on_terminal(engine, "run", "-it", "--name", name, "busybox", "sh") as terminal:
        terminal.expect(rb"# ")
        terminal.send(CTRL_P + CTRL_Q)
        assert terminal.wait() == 0
        assert cooked(terminal)
    assert engine.state(name)["Running"]
    with on_terminal(engine, "attach", "--detach-keys", "ctrl-x,x", name) as terminal:
        terminal.answered(b"\n", rb"# ")
        terminal.send(b"echo here$((1+1))\n")
        terminal.expect(rb"here2")
        terminal.send(b"\x18x")
        assert terminal.wait() == 0
    with on_terminal(engine, "attach", name) as terminal:
        terminal.answered(b"\n", rb"# ")
        terminal.send(b"exit 4\n")
        assert terminal.wait() == 4


def test_the_terminal_is_restored_when_the_client_is_terminated(engine: Engine) -> None:
    name = fresh("c")
    argv = ("run", "-it", "--sig-proxy=false", "--name", name, "busybox", "sh")
    with on_terminal(engine, *argv) as terminal:
        terminal.expect(rb"# ")
        assert not cooked(terminal)
        terminal.process.terminate()
        assert terminal.wait() == 128 + signal.SIGTERM
        assert cooked(terminal)
    assert engine.state(name)["Running"]


def test_a_terminal_is_asked_for_before_anything_is_made(engine: Engine) -> None:
    done = engine.netkit("run", "-it", "busybox", "sh", check=False)
    assert done.returncode == 1
    assert "not a TTY" in done.stderr
    assert engine.out("ps", "-aq") == ""


def test_tables_have_colours_on_a_terminal_only(engine: Engine) -> None:
    name = engine.sleeper()
    with on_terminal(engine, "ps", size=(24, 200)) as terminal:
        assert terminal.wait() == 0
        assert b"\x1b[32mUp " in terminal.seen
    assert "\x1b" not in engine.netkit("ps").stdout
    assert name in engine.netkit("ps").stdout
