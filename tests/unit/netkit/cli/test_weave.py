"""`netkit weave`, and the executable `weave`: what they ask and print, in golden/weave.txt.

NETKIT_UPDATE_GOLDEN=1 writes that file anew.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from netkit.cli import absent, weaveflags, weaverun, weavestatus, weavetext
from netkit.cli.app import run
from netkit.overlay import client
from plugins.weave import status as weave_status
from tests.stages import CLONE
from tests.unit.netkit.cli import cli_cases, cli_fake_weave
from tests.unit.netkit.cli.cli_fake_daemon import FakeDaemon, anywhere

GOLDEN = Path(__file__).parent / "golden" / "weave.txt"
UPDATE = bool(os.environ.get("NETKIT_UPDATE_GOLDEN"))


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeDaemon]:
    for name in [*weaveflags.UNREAD, *(name for name in os.environ if name.startswith("WEAVE_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("netkit.cli.terminal.size", lambda: None)
    with anywhere() as server:
        yield server


def asked(daemon: FakeDaemon) -> Iterator[str]:
    for method, path, query, body in daemon.record.rows():
        words = [*(f"{key}={''.join(each)}" for key, each in query.items())]
        yield " ".join(["asks", method, path, *words, *([json.dumps(body)] if body else [])])


def transcript(overlay: str, daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> str:
    daemon.overlay = overlay
    entries = [f"# the overlay is: {overlay}"]
    for line in cli_cases.lines(cli_cases.WEAVE[overlay]):
        daemon.record.asked.clear()
        code = run(["-H", f"unix://{daemon.server_address}", *shlex.split(line)])
        out, err = capfd.readouterr()
        entries += ["", f"$ netkit {line}", *asked(daemon), *out.rstrip("\n").splitlines()]
        entries += [f"stderr: {each}" for each in err.splitlines()]
        entries += [f"exit {code}"] if code else []
    return "\n".join(line.rstrip() for line in entries) + "\n"


def test_commands_ask_and_print_what_is_golden(
    daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    found = "\n".join(transcript(each, daemon, capfd) for each in cli_cases.WEAVE)
    if UPDATE:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def body_of(daemon: FakeDaemon) -> dict[str, Any]:
    body = daemon.record.rows()[-1][3]
    assert isinstance(body, dict)
    return body


def launched(daemon: FakeDaemon, *flags: str) -> dict[str, Any]:
    daemon.overlay = "nowhere"
    daemon.record.asked.clear()
    assert run(["-H", f"unix://{daemon.server_address}", "weave", "launch", *flags]) == 0
    return body_of(daemon)


def test_the_environment_counts_where_no_flag_is_given(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, given in {"PASSWORD": "p", "MTU": "1400", "PORT": "7000", "NO_FASTDP": "1"}.items():
        monkeypatch.setenv(f"WEAVE_{name}", given)
    assert launched(daemon) == {"Mtu": 1400, "Port": 7000, "Password": "p", "Fastdp": False}
    given = launched(daemon, "--mtu=9", "--port=8", "--no-fastdp=false", "--password=q")
    assert given == {"Mtu": 9, "Port": 8, "Password": "q"}
    assert capsys.readouterr().err.count("command line") == 1
    monkeypatch.setenv("WEAVE_PORT", "high")
    assert run(["weave", "launch"]) == 125
    assert capsys.readouterr().err.startswith("WEAVE_PORT=high: ")


def test_a_password_comes_from_a_file_or_from_standard_input(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("WEAVE_PASSWORD", "another")
    (tmp_path / "p").touch(0o600)
    (tmp_path / "p").write_text("a secret \n")
    assert launched(daemon, "--password-file", "p") == {"Password": "a secret "}
    monkeypatch.setattr("sys.stdin", io.StringIO("typed\r\n"))
    assert launched(daemon, "--password-file", "-") == {"Password": "typed"}
    assert "password" not in capsys.readouterr().err
    (tmp_path / "p").chmod(0o644)
    assert launched(daemon, "--password-file", "p") == {"Password": "a secret "}
    warning = "WARNING: all users of this machine can read the password: chmod 600 p\n"
    assert capsys.readouterr().err.startswith(warning)
    (tmp_path / "p").write_bytes(b"\n")
    assert run(["weave", "launch", "--password-file", "p"]) == 1
    (tmp_path / "p").write_bytes(b"\xff")
    assert run(["weave", "launch", "--password-file", "p"]) == 1
    assert capsys.readouterr().err == (
        "--password-file: p: it is empty\n--password-file: p: it is no text\n"
    )


def test_the_executable_has_the_same_words_under_its_own_name(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.server_address}")
    monkeypatch.delenv("NETKIT_HOST", raising=False)
    assert run(["ps", "web"], "weave") == 0
    assert capsys.readouterr().out == "0123456789ab 02:00:00:00:00:02 10.32.0.1/12 10.2.1.3/24\n"
    assert run(["-H", "unix:///nosuch", "ps"], "weave") == 1
    assert "unix:///nosuch" in capsys.readouterr().err
    for words in (["run", "--help"], ["help", "run"]):
        assert run(words, "weave") == 0
        text = capsys.readouterr().out
        assert text.startswith("Usage:  weave run [ADDR...] [OPTIONS] IMAGE")
        assert "\n  weave run 192.168.1.2/24 -it ubuntu /bin/bash\n" in text
    assert run(["--help"], "weave") == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage:  weave [OPTIONS] COMMAND")
    assert re.search("(?m)^  launch +Launch", text)
    assert run(["--version"], "weave") == 0
    assert capsys.readouterr().out.startswith("weave version ")
    assert run(["env"], "weave") == 1
    assert capsys.readouterr().err == f"weave env: {absent.INSTEAD['weave env']}\n"
    assert run(["lauch"], "weave") == 1
    assert capsys.readouterr().err == (
        "unknown command: weave lauch, did you mean 'launch'? (see 'weave --help')\n"
    )


def test_an_id_is_printed_once_the_container_runs(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETKIT_HOST", f"unix://{daemon.server_address}")
    assert run(["run", "10.2.1.1/24", "-it", "busybox"], "weave") == 0
    assert capsys.readouterr().out == "0123456789abcdef" * 4 + "\n"
    assert [row[1] for row in daemon.record.rows()][-1].endswith("/start")
    capsys.readouterr()
    daemon.overlay = "nowhere"
    assert run(["run", "10.2.1.1/24", "busybox"], "weave") == 125
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "addresses", "rest"),
    [
        ("10.2.1.1/24 -it ubuntu bash", "10.2.1.1/24", "-it ubuntu bash"),
        ("--with-dns 10.2.1.1/24 ip:10.3.1.1/8 net:default ubuntu 10.4.0.0/16",
         "10.2.1.1/24 ip:10.3.1.1/8 net:default", "--with-dns ubuntu 10.4.0.0/16"),
        ("abc:5000/64 10.2.1.1/24", "", "abc:5000/64 10.2.1.1/24"),
        ("-d 10.2.1.1/24", "", "-d 10.2.1.1/24"),
        ("fd00::1/64 x", "fd00::1/64", "x"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_addresses_come_before_what_docker_reads(line: str, addresses: str, rest: str) -> None:
    assert weaverun.split(line.split()) == (addresses.split(), rest.split())


def test_an_address_that_two_containers_have_is_a_problem_on_every_host() -> None:
    found = cli_fake_weave._found("launched")
    why = "10.9.0.5 is in use at h1: h2 has it, too, and gets nothing that is sent to it"
    found["Status"]["networks"][0]["conflicts"] = [why]
    said = f"Problem: network weave: {why}: give one of the two another address"
    assert said in weavetext.summary(found)


def test_status_is_printed_as_the_overlay_has_it() -> None:
    shown = cli_fake_weave.overlay()
    found = cli_fake_weave._found("launched")["Status"]
    for each, row in zip(shown.connections, found["connections"], strict=True):
        assert weavetext.connection(row) == each.line().rstrip()
    entries = f"Entries: {len(weavetext.names(found))}\n"
    assert entries in weavetext.summary(cli_fake_weave._found("launched"))
    assert weavetext.ipam_state(found["ipam"]) == weave_status.ipam_state(shown.ipam)
    assert weavestatus.ABSENT == client.ABSENT


HOSTILE = "h2\x1b]0;owned\x07\nh1\u202e"


def test_what_peers_are_called_does_nothing_to_a_terminal(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a password anybody is a peer."""
    answer = cli_fake_weave.answer

    def hostile(*asked: Any) -> Any:
        changed = json.dumps(answer(*asked)).replace("h2", json.dumps(HOSTILE)[1:-1])
        found, status = json.loads(changed)
        refused = asked[2] == "/netkit/weave/attach"
        return ({"message": HOSTILE}, 409) if refused else (found, status)

    monkeypatch.setattr(cli_fake_weave, "answer", hostile)
    monkeypatch.setenv("NETKIT_HOST", f"unix://{daemon.server_address}")
    lines = ["", *weavestatus.SECTIONS]
    for words in (*(f"status {each}" for each in lines), "report", "attach web",
                  "report -f {{.overlay.peers}}"):  # fmt: skip
        run(words.split(), "weave")
        out, err = capsys.readouterr()
        assert out or err, words
        assert all(c.isprintable() or c == "\n" for c in out + err), words
        assert "\nh1" not in out


@pytest.mark.parametrize("change", [
    {"waiting": ()}, {"unreachable": 0.0}, {"fenced": "its lease is over"},
    {"range": None}, {"range": None, "waiting": ()},
])  # fmt: skip
def test_addresses_are_in_the_same_state_as_the_overlay_says(change: dict[str, Any]) -> None:
    shown = replace(cli_fake_weave.overlay().ipam, **change)
    found = cli_fake_weave.as_json(msgspec.to_builtins(shown, builtin_types=(bytes,)))
    assert weavetext.ipam_state(found) == weave_status.ipam_state(shown)


def test_every_word_of_weave_s_is_in_the_documentation() -> None:
    text = (CLONE / "docs" / "from-weave.md").read_text()
    own = {flag.name for flag in weaveflags.LAUNCH} | set(weaveflags.CONTAINERS_WITHOUT_EFFECT)
    own = own - {"endpoint"} | {weaveflags.WITHOUT_DNS.name}
    assert sorted(name for name in own if f"`--{name}`" not in text) == []
    assert sorted(name for name in weaveflags.UNREAD if name not in text) == []
    missing = {w.removeprefix("weave ") for w in absent.INSTEAD if w.startswith("weave ")}
    assert sorted(word for word in missing if f"`{word}`" not in text) == []
