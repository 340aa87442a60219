"""netkit-cni: what it imports, sends, prints and exits with."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netkit.frontends.cni import conf, program

PROGRAM = Path(program.__file__)
ADD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0", "CNI_NETNS": "/proc"}


class Daemon:
    """Answers every request in the same way, and keeps them."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.path, self.answer = path, answer
        self.bodies: list[Any] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            end, _ = self._socket.accept()
            with end, end.makefile("rb") as file:
                line = file.readline()
                if not line:
                    return
                assert line == b"POST /netkit/cni HTTP/1.1\r\n"
                length = 0
                while (line := file.readline()) != b"\r\n":
                    name, _, value = line.partition(b": ")
                    length = int(value) if name == b"Content-Length" else length
                self.bodies.append(json.loads(file.read(length)))
                end.sendall(self.answer)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(self.path))
        self._thread.join()
        self._socket.close()


@contextmanager
def daemon(folder: Path, code: int = 0, output: str = '{"ips":[]}') -> Iterator[Daemon]:
    head = f"HTTP/1.1 200 OK\r\nX-Cni-Exit: {code}\r\n\r\n" if code >= 0 else ""
    found = Daemon(folder / "s", (head + output).encode())
    try:
        yield found
    finally:
        found.close()


def run(
    env: Mapping[str, str], stdin: str | bytes = "", *words: str, program: Path = PROGRAM
) -> tuple[int, str]:
    text = stdin.encode() if isinstance(stdin, str) else stdin
    argv = [str(program)] if os.access(program, os.X_OK) else [sys.executable, str(program)]
    done = subprocess.run([*argv, *words], input=text, capture_output=True, env=env, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_it_knows_what_the_service_knows() -> None:
    assert program.VERSIONS == conf.VERSIONS
    assert program.MOST == conf.MAX_BYTES


@pytest.mark.slow
def test_it_imports_nothing() -> None:
    script = f"""
import sys
before = set(sys.modules)
source = {{"__name__": "program"}}
exec(compile(open({str(PROGRAM)!r}).read(), "program", "exec"), source)
code = source["run"]({{b"CNI_COMMAND": b"ADD", b"NETKIT_HOST": b"unix:///nosuch"}})
sys.stderr.write(" ".join(sorted(sys.modules.keys() - before)))
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    assert set(done.stderr.split()) <= {"_socket", "posix"}
    assert json.loads(done.stdout)["code"] == 11


@pytest.mark.slow
@pytest.mark.parametrize("given", ["", '{"cniVersion":"1.0.0"}', "junk", '{"cniVersion":"9"}'])
def test_its_version_needs_no_daemon(given: str) -> None:
    code, out = run({"CNI_COMMAND": "VERSION"}, given)
    version = "1.0.0" if "1.0.0" in given else "1.1.0"
    assert (code, json.loads(out)) == (
        0, {"cniVersion": version, "supportedVersions": list(conf.VERSIONS)}
    )  # fmt: skip


@pytest.mark.slow
def test_it_passes_on_what_it_gets_and_prints_what_it_is_answered(tmp_path: Path) -> None:
    text = '{"cniVersion":"1.0.0","name":"b","x":"é\\\\\\u0001\t\x01"}'
    with daemon(tmp_path) as there:
        env = {**ADD, "NETKIT_HOST": f"unix://{there.path}", "OTHER": "x", "CNI_ARGS": 'A="b\\'}
        assert run(env, text) == (0, '{"ips":[]}\n')
        (body,) = there.bodies
    found = Path("/proc").stat()
    assert body["stdin"] == text
    assert body["env"] == {k: v for k, v in env.items() if k.startswith("CNI_")}
    assert body["nsid"] == f"{found.st_dev}:{found.st_ino}"


@pytest.mark.slow
def test_an_error_of_the_daemons_is_its_exit_code(tmp_path: Path) -> None:
    with daemon(tmp_path, 1, '{"code":7}') as there:
        conf = json.dumps({"name": "b", "socket": str(there.path), "args": {"socket": "/x"}})
        # The key goes before the runtime's environment.
        assert run({**ADD, "NETKIT_HOST": "unix:///nosuch"}, conf) == (1, '{"code":7}\n')
        assert there.bodies[0]["nsid"]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("DEL", 11), ("STATUS", 50)])
def test_without_a_daemon_the_runtime_is_asked_to_try_again(
    tmp_path: Path, command: str, code: int
) -> None:
    env = {**ADD, "CNI_COMMAND": command, "NETKIT_HOST": f"unix://{tmp_path}/none"}
    exit, out = run(env, '{"cniVersion":"0.4.0","name":"b"}')
    error = json.loads(out)
    assert (exit, error["code"], error["cniVersion"]) == (1, code, "0.4.0")
    assert f"{tmp_path}/none" in error["msg"]
    with daemon(tmp_path, -1, "HTTP/1.1 404 Not Found\r\n\r\n{}") as there:
        exit, out = run({**env, "NETKIT_HOST": f"unix://{there.path}"}, "{}")
        assert (exit, json.loads(out)["code"]) == (1, code)
        assert "404 Not Found" in json.loads(out)["msg"]


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"daemon":"none"}', "none"), ('{"a":{"daemon":"x"},"daemon" : "none"}', "none"),
     ('{"a":"\\"daemon\\":\\"x\\"","b":["daemon",{}]}', ""), ('{"daemon":7}', ""), ("", ""),
     ('"daemon":"none"', ""), ('{"daemon', ""), ('{"x":"daemon"}', ""), ('{"daemon":"a\\"b"}', "")],
)  # fmt: skip
def test_a_member_is_found_in_the_outermost_object(text: str, value: str) -> None:
    assert program.field(text, "daemon") == value


@pytest.mark.slow
def test_too_large_a_configuration_is_not_passed_on(tmp_path: Path) -> None:
    with daemon(tmp_path) as there:
        code, out = run({**ADD, "NETKIT_HOST": f"unix://{there.path}"}, " " * (program.MOST + 1))
        assert (code, json.loads(out)["code"], there.bodies) == (1, 6, [])


@pytest.mark.slow
def test_it_installs_itself(tmp_path: Path) -> None:
    assert run({}, "", "--install", str(tmp_path)) == (0, f"{tmp_path}/netkit\n")
    plugin = tmp_path / "netkit"
    assert plugin.stat().st_mode & 0o777 == 0o755
    assert [p.name for p in tmp_path.iterdir()] == ["netkit"]
    code, out = run({"CNI_COMMAND": "VERSION"}, "", program=plugin)
    assert (code, json.loads(out)["cniVersion"]) == (0, "1.1.0")
    code, out = run({}, "", "--install", f"{tmp_path}/none")
    assert (code, out.count("\n")) == (1, 1)
    assert "No such file or directory" in out
    assert run({}, "", "--help") == (0, program.HELP)
    for words in (["x"], []):
        code, out = run({}, "", *words)
        assert (code, out.count("\n")) == (1, 1)
