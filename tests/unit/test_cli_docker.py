"""netkit asks the engine what the stock docker CLI asks, and prints what it prints.

golden/cli.json was recorded with cli_record.py; nothing here needs docker.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.cli.app import run
from tests.unit import cli_cases
from tests.unit.cli_fake_daemon import FakeDaemon, running
from tests.unit.cli_record import GOLDEN, prepare, requests

CASES: dict[str, Any] = json.loads(GOLDEN.read_text())["cases"]


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with (
        tempfile.TemporaryDirectory(prefix="nk-", dir="/tmp") as folder,
        running(Path(folder) / "s") as server,
    ):
        yield server


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder and environment the golden was recorded in."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("DOCKER_HOST", "NETKIT_HOST", "DOCKER_API_VERSION", "NOT_SET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in cli_cases.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def netkit(line: str, daemon: FakeDaemon, folder: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Code, output and requests of one command line, as they are in the golden."""
    daemon.record.asked.clear()
    code = run(["-H", f"unix://{daemon.server_address}", *shlex.split(line)])
    out, err = capfd.readouterr()
    text = json.dumps(
        {"code": code, "out": out, "err": err, "asked": requests(daemon.record.rows())}
    )
    return json.loads(text.replace(str(folder), "/FOLDER"))


def test_every_case_was_recorded() -> None:
    assert set(cli_cases.ALL) == set(CASES)


@pytest.mark.parametrize("line", cli_cases.lines(cli_cases.CREATE))
def test_create_and_run_send_what_docker_sends(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = netkit(line, daemon, place, capfd)
    assert found["asked"] == CASES[line]["asked"]
    assert (found["code"], found["out"]) == (CASES[line]["code"], CASES[line]["out"])


@pytest.mark.parametrize("line", cli_cases.lines(cli_cases.CALLS))
def test_commands_ask_and_print_what_docker_does(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = netkit(line, daemon, place, capfd)
    assert found["asked"] == CASES[line]["asked"]
    assert (found["code"], found["out"]) == (CASES[line]["code"], CASES[line]["out"])


@pytest.mark.parametrize("line", cli_cases.lines(cli_cases.BAD))
def test_what_docker_refuses_is_refused_in_one_line(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = netkit(line, daemon, place, capfd)
    assert found["code"] == CASES[line]["code"]
    assert found["err"].count("\n") == 1
    said = CASES[line]["err"].split("\n")[0].removeprefix("docker: ").removeprefix("Error: ")
    assert said.replace("docker", "netkit") in found["err"]
