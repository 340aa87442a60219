"""logs, attach, exec, and interactive runs on a terminal."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from docker.errors import APIError

from tests.engine.daemon import DOCKER, Engine, fresh, netkit_only
from tests.engine.terminal import CTRL_C, CTRL_D, CTRL_P, CTRL_Q, Terminal

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"


def terminal(engine: Engine, *args: str) -> Terminal:
    env = engine.cli_environment() | {"TERM": "xterm"}
    return Terminal([DOCKER, "-H", engine.host, *args], env=env)


# logs


def ended(engine: Engine, *command: str, flags: tuple[str, ...] = ()) -> str:
    name = engine.up(*flags, "busybox", *command)
    engine.docker("wait", name)
    return name


def test_logs_keep_both_streams_apart(engine: Engine) -> None:
    name = ended(engine, "sh", "-c", "echo one; echo two >&2; printf three")
    done = engine.docker("logs", name)
    assert (done.stdout, done.stderr) == ("one\nthree", "two\n")


def test_logs_tail(engine: Engine) -> None:
    name = ended(engine, "seq", "1000")
    assert engine.out("logs", "--tail", "3", name).split() == ["998", "999", "1000"]
    assert engine.out("logs", "-n", "0", name) == ""
    assert len(engine.out("logs", "--tail", "all", name).split()) == 1000


def test_logs_with_timestamps(engine: Engine) -> None:
    name = ended(engine, "sh", "-c", "echo a; sleep 0.1; echo b")
    lines = engine.out("logs", "-t", name).splitlines()
    assert [re.sub(f"^{STAMP} ", "", line) for line in lines] == ["a", "b"]
    assert lines == sorted(lines)


def test_a_line_written_in_pieces_has_one_timestamp(engine: Engine) -> None:
    name = ended(engine, "sh", "-c", "printf 'one '; sleep 0.2; printf 'two '; sleep 0.2; echo end")
    assert re.fullmatch(f"{STAMP} one two end", engine.out("logs", "-t", name))


def test_attach_and_wait_end_though_the_container_starts_again(engine: Engine) -> None:
    name = engine.up("--restart", "always", "busybox", "sh", "-c", "sleep 2; exit 3")
    waiting = subprocess.Popen(
        [DOCKER, "-H", engine.host, "wait", name],
        stdout=subprocess.PIPE,
        text=True,
        env=engine.cli_environment(),
    )
    assert engine.docker("attach", name, check=False, timeout=20).returncode == 3
    assert waiting.communicate(timeout=20)[0] == "3\n"


def test_a_terminal_s_size_must_fit(engine: Engine) -> None:
    api = engine.client.api
    name = engine.sleeper()
    for height in (-1, 1 << 32):
        with pytest.raises(APIError) as refused:
            api.resize(name, height=height, width=80)
        assert refused.value.status_code == 400


def test_logs_since_and_until(engine: Engine) -> None:
    name = ended(engine, "sh", "-c", "echo early; sleep 1.2; echo late")
    stamps = [line.split()[0] for line in engine.out("logs", "-t", name).splitlines()]
    assert engine.out("logs", "--since", stamps[1], name) == "late"
    assert engine.out("logs", "--until", stamps[0], name) == "early"
    assert engine.out("logs", "--since", "10m", name).split() == ["early", "late"]
    assert engine.out("logs", "--since", "2099-01-01T00:00:00Z", name) == ""


def test_logs_follow_until_the_end(engine: Engine) -> None:
    name = engine.up("busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    assert engine.out("logs", "-f", name, timeout=20).split() == ["1", "2", "3"]


def test_logs_follow_delivers_at_once(engine: Engine) -> None:
    later = "until test -e /go; do sleep 0.1; done; echo later; exec sleep 1000"
    name = engine.up("busybox", "sh", "-c", f"echo before; {later}")
    engine.wait_for_output(name, "before")
    follow = subprocess.Popen(
        [DOCKER, "-H", engine.host, "logs", "-f", "--tail", "1", name],
        stdout=subprocess.PIPE,
        text=True,
        env=engine.cli_environment(),
    )
    try:
        assert follow.stdout is not None
        assert follow.stdout.readline() == "before\n"
        engine.docker("exec", name, "touch", "/go")
        assert follow.stdout.readline() == "later\n"
        assert engine.state(name)["Running"]
    finally:
        follow.kill()
        follow.wait()
        assert follow.stdout is not None
        follow.stdout.close()


def test_a_long_line_comes_back_whole(engine: Engine) -> None:
    name = ended(engine, "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo next")
    assert engine.docker("logs", name).stdout == "x" * 100_000 + "\nnext\n"


def test_a_large_output_is_complete(engine: Engine) -> None:
    assert len(engine.run("busybox", "seq", "200000").splitlines()) == 200_000


def test_bytes_are_not_altered(engine: Engine) -> None:
    done = subprocess.run(
        [DOCKER, "-H", engine.host, "run", "--rm", "busybox", "printf", r"\000\001\377\r\n"],
        capture_output=True,
        env=engine.cli_environment(),
        timeout=30,
        check=True,
    )
    assert done.stdout == b"\x00\x01\xff\r\n"


def test_logs_rotate_by_size(engine: Engine) -> None:
    name = ended(
        engine,
        "sh",
        "-c",
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
        flags=("--log-opt", "max-size=8k", "--log-opt", "max-file=2"),
    )
    lines = engine.out("logs", name).splitlines()
    assert lines[-1] == "line 2999"
    assert 10 < len(lines) < 2000
    first = int(lines[0].split()[1])
    assert [int(line.split()[1]) for line in lines] == list(range(first, 3000))


def test_a_follower_gets_each_line_once_over_rotations_and_the_end(engine: Engine) -> None:
    """More than max-size is written since the last look at it: the log is cut at the exit."""
    flags = ("--log-opt", "max-size=8k", "--log-opt", "max-file=1000")
    later = "until test -e /go; do sleep 0.1; done; seq 3000"
    name = engine.up(*flags, "busybox", "sh", "-c", f"echo 0; {later}")
    follow = subprocess.Popen(
        [DOCKER, "-H", engine.host, "logs", "-f", name],
        stdout=subprocess.PIPE, text=True, env=engine.cli_environment(),
    )  # fmt: skip
    assert follow.stdout is not None
    with follow.stdout as lines:
        try:
            assert lines.readline() == "0\n"
            engine.docker("exec", name, "touch", "/go")
            assert [int(line) for line in lines] == list(range(1, 3001))
        finally:
            follow.kill()
            follow.wait()


def test_an_unknown_log_option_is_refused(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--log-opt", "colour=red", "busybox", check=False)
    assert done.returncode == 125
    assert "colour" in done.stderr


def test_log_driver_none_keeps_nothing(engine: Engine) -> None:
    name = ended(engine, "echo", "x", flags=("--log-driver", "none"))
    done = engine.docker("logs", name, check=False)
    assert done.returncode == 1
    assert "reading" in done.stderr


def test_logs_survive_a_restart_of_the_container(engine: Engine) -> None:
    name = ended(engine, "echo", "again")
    engine.docker("start", "-a", name)
    assert engine.out("logs", name).split() == ["again", "again"]


# attach


def test_attach_shows_what_comes_and_gives_the_exit_code(engine: Engine) -> None:
    name = engine.up("busybox", "sh", "-c", "sleep 0.7; echo late; exit 5")
    done = engine.docker("attach", name, check=False, timeout=20)
    assert (done.stdout, done.returncode) == ("late\n", 5)


def test_attach_passes_stdin(engine: Engine) -> None:
    name = engine.up("-i", "busybox", "sh", "-c", "read x; echo got $x")
    attach = subprocess.Popen(
        [DOCKER, "-H", engine.host, "attach", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=engine.cli_environment(),
    )
    with attach:
        assert attach.stdin is not None
        assert attach.stdout is not None
        # Docker ends an attach at the end of its input, so that has to stay open.
        attach.stdin.write(b"word\n")
        attach.stdin.flush()
        assert attach.stdout.readline() == b"got word\n"
        assert attach.wait(60) == 0


@netkit_only("dockerd has no conmon")
def test_attach_waits_for_a_busy_conmon(engine: Engine) -> None:
    """Ten connections fit into its queue."""
    name = engine.up("busybox", "sh", "-c", "while :; do echo hi; sleep 0.1; done")
    status = Path(f"/proc/{engine.state(name)['Pid']}/status").read_text()
    parent = re.findall(r"PPid:\t(.*)", status)[0]
    ask = f"POST /containers/{name}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(20)]
        os.kill(int(parent), signal.SIGSTOP)
        stack.callback(os.kill, int(parent), signal.SIGCONT)
        for client in clients:
            client.settimeout(60)
            client.connect(engine.host.removeprefix("unix://"))
            client.sendall(ask)
            assert b" 200 " in client.recv(4096)
        os.kill(int(parent), signal.SIGCONT)
        for client in clients:
            assert client.recv(4096)


def test_attach_to_a_stopped_container_is_an_error(engine: Engine) -> None:
    name = ended(engine, "true")
    done = engine.docker("attach", name, check=False)
    assert done.returncode == 1
    assert "stopped container" in done.stderr


def test_a_terminal_has_a_size_a_prompt_and_an_exit_code(engine: Engine) -> None:
    with terminal(engine, "run", "--rm", "-it", "busybox", "sh") as t:
        t.expect(rb"# ")
        t.send(b"tty; stty size\n")
        t.expect(rb"/dev/(pts/\d+|console)\r\n")
        t.expect(rb"24 80\r\n")
        t.resize(40, 123)
        t.answered(b"stty size\n", rb"40 123\r\n")
        t.send(b"exit 3\n")
        assert t.wait() == 3


def test_ctrl_c_interrupts_the_program_and_ctrl_d_ends_the_shell(engine: Engine) -> None:
    with terminal(engine, "run", "--rm", "-it", "busybox", "sh") as t:
        t.expect(rb"# ")
        t.send(b"sh -c 'echo up; exec sleep 1000'\n")
        t.expect(rb"\nup\r\n")
        t.send(CTRL_C)
        t.expect(rb"# ")
        t.send(b"echo code=$?\n")
        t.expect(rb"code=130\r\n")
        t.send(CTRL_D)
        assert t.wait() == 0


def test_detach_keys_leave_the_container_running_and_attach_comes_back(engine: Engine) -> None:
    name = fresh("tty")
    with terminal(engine, "run", "-it", "--name", name, "busybox", "sh") as t:
        t.expect(rb"# ")
        t.send(b"X=kept\n")
        t.expect(rb"# ")
        t.send(CTRL_P)
        time.sleep(0.05)
        t.send(CTRL_Q)
        t.expect(rb"read escape sequence|$")
        t.wait()
    assert engine.state(name)["Running"]
    with terminal(engine, "attach", name) as t:
        t.answered(b"\n", rb"# ")
        t.send(b"echo $X\n")
        t.expect(rb"kept\r\n")
        t.send(CTRL_P + CTRL_Q)
        t.wait()
    assert engine.state(name)["Running"]


def test_detach_keys_can_be_chosen(engine: Engine) -> None:
    name = engine.up("-it", "busybox", "sh")
    with terminal(engine, "attach", "--detach-keys", "ctrl-x,y", name) as t:
        t.answered(b"\n", rb"# ")
        t.send(CTRL_P + CTRL_Q + b"echo still here\n")
        t.expect(rb"\nstill here\r\n")
        t.send(b"\x18y")
        t.wait()
    assert engine.state(name)["Running"]


def test_start_on_a_terminal(engine: Engine) -> None:
    name = fresh("tty")
    engine.docker("create", "-it", "--name", name, "busybox", "sh")
    with terminal(engine, "start", "-ai", name) as t:
        t.expect(rb"# ")
        t.send(b"exit 4\n")
        assert t.wait() == 4


def test_logs_of_a_terminal_are_one_stream(engine: Engine) -> None:
    name = engine.up("-t", "busybox", "sh", "-c", "echo out; echo err >&2")
    engine.docker("wait", name)
    done = engine.docker("logs", name)
    assert (done.stdout, done.stderr) == ("out\r\nerr\r\n", "")


# exec


def test_exec_runs_beside_and_gives_output_and_exit_code(engine: Engine) -> None:
    name = engine.sleeper()
    done = engine.docker("exec", name, "sh", "-c", "echo out; echo err >&2; exit 8", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 8)


def test_an_exec_is_over_when_its_command_is_though_a_child_has_its_output(engine: Engine) -> None:
    name = engine.sleeper()
    leaving = "sleep 60 & echo started; exit 5"
    begin = time.monotonic()
    done = engine.docker("exec", name, "sh", "-c", leaving, check=False)
    assert (done.stdout, done.returncode) == ("started\n", 5)
    on_terminal = "setsid sleep 60 & sleep 0.2; exit 6"
    with terminal(engine, "exec", "-t", name, "sh", "-c", on_terminal) as t:
        assert t.wait() == 6
    id = engine.client.api.exec_create(name, ["sh", "-c", leaving])["Id"]
    engine.client.api.exec_start(id)
    seen = engine.client.api.exec_inspect(id)
    assert (seen["Running"], seen["ExitCode"]) == (False, 5)
    assert time.monotonic() - begin < 40
    assert "sleep 60" in engine.out("top", name)


def test_exec_with_stdin(engine: Engine) -> None:
    name = engine.sleeper()
    done = engine.docker("exec", "-i", name, "md5sum", input=b"y" * 1_000_000)
    assert done.stdout.split()[0] == hashlib.md5(b"y" * 1_000_000).hexdigest()
    assert (
        engine.docker("exec", "-i", name, "wc", "-c", input=b"y" * 1_000_000).stdout == "1000000\n"
    )


def test_exec_environment_user_and_workdir(engine: Engine) -> None:
    name = engine.sleeper("-e", "INHERITED=1")
    text = engine.out(
        "exec",
        "-e",
        "A=b",
        "-u",
        "app",
        "-w",
        "/data",
        name,
        "sh",
        "-c",
        "echo $A $INHERITED; id -un; pwd",
    )
    assert text.split("\n") == ["b 1", "app", "/data"]


def test_exec_detached(engine: Engine) -> None:
    name = engine.sleeper()
    assert engine.out("exec", "-d", name, "sh", "-c", "touch /done") == ""
    deadline = time.monotonic() + 60
    while engine.docker("exec", name, "test", "-e", "/done", check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_exec_on_a_terminal(engine: Engine) -> None:
    name = engine.sleeper()
    with terminal(engine, "exec", "-it", name, "sh") as t:
        t.expect(rb"# ")
        t.send(b"stty size; exit 7\n")
        t.expect(rb"24 80\r\n")
        assert t.wait() == 7


@pytest.mark.parametrize(("program", "code"), [("nosuchprogram", 127), ("/not-executable", 126)])
def test_exec_of_what_cannot_run(engine: Engine, program: str, code: int) -> None:
    if engine.kind == "dockerd":
        code = 126  # 20.10 says so for both; corrected in 23.0
    assert engine.docker("exec", engine.sleeper(), program, check=False).returncode == code


def test_exec_in_a_stopped_container_is_an_error(engine: Engine) -> None:
    name = ended(engine, "true")
    done = engine.docker("exec", name, "true", check=False)
    assert done.returncode == 1
    assert "is not running" in done.stderr


def test_exec_privileged_has_more_than_the_container(engine: Engine) -> None:
    name = engine.sleeper("--cap-drop", "ALL")
    assert (
        engine.out("exec", name, "grep", "CapEff", "/proc/self/status").split()[1].strip("0") == ""
    )


def test_many_execs_at_once(engine: Engine) -> None:
    name = engine.sleeper()
    runs = [
        subprocess.Popen(
            [DOCKER, "-H", engine.host, "exec", name, "echo", str(n)],
            stdout=subprocess.PIPE,
            text=True,
            env=engine.cli_environment(),
        )
        for n in range(12)
    ]
    assert [run.communicate(timeout=60)[0] for run in runs] == [f"{n}\n" for n in range(12)]


def test_a_container_that_ends_ends_its_execs(engine: Engine) -> None:
    name = engine.sleeper()
    run = subprocess.Popen(
        [DOCKER, "-H", engine.host, "exec", name, "sleep", "4321"], env=engine.cli_environment()
    )
    deadline = time.monotonic() + 60
    try:
        while "sleep 4321" not in engine.out("top", name):
            assert time.monotonic() < deadline
        engine.docker("kill", name)
        assert run.wait(60) == 137
    finally:
        run.kill()
        run.wait()
