"""netkit asks the engine what the stock docker CLI asks, and prints what it prints.

golden/cli.json was recorded with cli_record.py; nothing here needs docker.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.cli.app import run
from tests.unit.netkit.cli import cli_cases
from tests.unit.netkit.cli.cli_fake_daemon import FakeDaemon, anywhere
from tests.unit.netkit.cli.cli_record import GOLDEN, prepare, requests

CASES: dict[str, Any] = json.loads(GOLDEN.read_text())["cases"]

# Requests of docker's that learn nothing or ask for what netkit does not have.
SPARED = (
    ("run -d", "POST", r"/containers/\w+/wait"),  # and then does not look at the answer
    ("exec", "GET", r"/containers/\w+/json"),  # creating the exec says as much
    ("network rm", "GET", r"/networks/\w+"),
    ("system prune", "POST", "/build/prune"),
    ("inspect", "GET", r"/info|/plugins/.*"),
)
ANY_ORDER = ("kill", "pause", "restart", "rm", "stop", "unpause", "update", "wait")  # many at once
# Where netkit does otherwise on purpose: what differs, and why.
OTHERWISE = {
    "create --mac-address 02-42-AC-11-00-02 busybox": "asked: one spelling for every engine",
    "system df -v": "out: no table of the build cache, which there is none of",
    "stop --time 3 web": "out: no complaint about an old flag",
}
# Refused by netkit though the recorded docker lets the engine find out, with netkit's message.
STRICTER = {
    "create --expose 80/foo busybox": "invalid port format for --expose: 80/foo",
    "create --network name=a,ip=x busybox": "IP address is not correctly formatted: x",
    "create --ip x busybox": "IP address is not correctly formatted: x",
    "network create --subnet nonsense net1": "invalid CIDR address: nonsense",
    "run --detach-keys nonsense busybox": "invalid detach keys (nonsense)",
}
OWN_WORDS = {
    "ps --format '{{.Nope}}'": "can't evaluate field Nope; there are .Command, .CreatedAt",
    "ps --format '{{'": "template parsing error: unclosed action",
    "inspect -f '{{' web": "template parsing error: unclosed action",
    "system prune -f --volumes --filter until=1h": '"until" filter is not supported with',
    "inspect --type nonsense web": "use container, image, network, volume",
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with anywhere() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Restore the folder and environment in which the golden file was recorded."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("DOCKER_HOST", "NETKIT_HOST", "DOCKER_API_VERSION", "NOT_SET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in cli_cases.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    time.tzset()
    return tmp_path


def netkit(line: str, daemon: FakeDaemon, folder: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Return code, output and requests of one command line, in the form of the golden file."""
    daemon.record.asked.clear()
    code = run(["-H", f"unix://{daemon.server_address}", *shlex.split(line)])
    out, err = capfd.readouterr()
    text = json.dumps(
        {"code": code, "out": out, "err": err, "asked": requests(daemon.record.rows())}
    )
    return json.loads(text.replace(str(folder), "/FOLDER"))


def expected_requests(line: str) -> list[Any]:
    """Return docker's requests, without those that netkit need not make."""
    rows = [
        row
        for row in CASES[line]["asked"]
        if not any(
            line.startswith(start) and row[0] == method and re.fullmatch(path, row[1])
            for start, method, path in SPARED
        )
    ]
    return ordered(line, rows)


def ordered(line: str, rows: list[Any]) -> list[Any]:
    """Without what says nothing: the order of binds is that of the folders, wherever they are."""
    for _, _, _, body in rows:
        if isinstance(body, dict) and (binds := body.get("HostConfig", {}).get("Binds")):
            binds.sort()
    return sorted(rows, key=str) if line.split(maxsplit=1)[0] in ANY_ORDER else rows


def test_every_case_was_recorded() -> None:
    assert set(cli_cases.ALL) == set(CASES)


@pytest.mark.parametrize("line", cli_cases.lines(cli_cases.CREATE + cli_cases.CALLS))
def test_commands_ask_and_print_what_docker_does(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = netkit(line, daemon, place, capfd)
    golden = CASES[line]
    same = {
        "asked": ordered(line, found["asked"]) == expected_requests(line),
        "out": found["out"] == golden["out"],
        "code": found["code"] == golden["code"],
    }
    if line in OTHERWISE:
        assert [key for key, equal in same.items() if not equal] == [OTHERWISE[line].split(":")[0]]
        return
    assert ordered(line, found["asked"]) == expected_requests(line)
    assert (found["code"], found["out"]) == (golden["code"], golden["out"])


@pytest.mark.parametrize("line", cli_cases.lines(cli_cases.BAD))
def test_what_docker_refuses_is_refused_in_one_line(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found, golden = netkit(line, daemon, place, capfd), CASES[line]
    assert found["err"].count("\n") == 1
    if line in STRICTER:
        assert found["code"] != 0
        assert STRICTER[line] in found["err"]
        assert not any(row[0] == "POST" for row in found["asked"])
        return
    assert found["code"] == golden["code"]
    message = golden["err"].split("\n")[0].removeprefix("docker: ").removeprefix("Error: ")
    message = OWN_WORDS.get(line, message.replace("docker", "netkit"))
    assert message.lower() in found["err"].lower()


@pytest.mark.parametrize(
    "line", ["inspect --type volume data nosuch", "inspect --type image nosuch"]
)
def test_an_inspect_of_one_type_says_what_the_engine_says(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netkit(line, daemon, place, capfd)["err"] == CASES[line]["err"]
