"""netkit sends the context and the request of a build that the stock docker CLI sends.

golden/build.json was recorded with build_record.py; nothing here needs docker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.cli.app import run
from tests.unit.netkit.cli import build_cases, cli_cases
from tests.unit.netkit.cli.build_record import ALL, GOLDEN, normal, prepare, split
from tests.unit.netkit.cli.cli_fake_daemon import FakeDaemon, anywhere

CASES: dict[str, Any] = json.loads(GOLDEN.read_text())
# Where netkit has words of its own.
OWN_WORDS = {
    "build": "'netkit build' requires 1 argument",
    "build plain plain": "'netkit build' requires 1 argument",
    "build --build-arg plain": "'netkit build' requires 1 argument",
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with anywhere() as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contexts")
    prepare(folder)
    return folder


@pytest.fixture(autouse=True)
def surroundings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for name in ("DOCKER_HOST", "NETKIT_HOST", "DOCKER_API_VERSION", "NOT_SET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(place / "config"))
    for name, value in cli_cases.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def netkit(line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Return code, output and requests of one command line, in the form of the golden file."""
    daemon.record.asked.clear()
    words, source = split(line)
    kept = os.dup(0)
    with open(place / source, "rb") as stdin:
        os.dup2(stdin.fileno(), 0)
    try:
        code = run(["-H", f"unix://{daemon.server_address}", *words])
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    out, err = capfd.readouterr()
    return normal(line, code, out, err, daemon.record.rows(), place)


def test_every_case_was_recorded() -> None:
    assert set(ALL) == set(CASES)


@pytest.mark.parametrize("line", cli_cases.lines(build_cases.CALLS))
def test_builds_send_and_print_what_docker_does(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netkit(line, daemon, place, capfd) == CASES[line]


@pytest.mark.parametrize("line", build_cases.ignoring())
def test_a_dockerignore_leaves_out_what_dockers_client_leaves_out(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netkit(line, daemon, place, capfd) == CASES[line]


@pytest.mark.parametrize("line", cli_cases.lines(build_cases.BAD))
def test_what_docker_refuses_is_refused_in_one_line(
    line: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found, golden = netkit(line, daemon, place, capfd), CASES[line]
    assert (found["err"].count("\n"), found["asked"]) == (1, [])
    assert found["code"] == golden["code"]
    assert OWN_WORDS.get(line, golden["err"].split("\n")[0]) in found["err"]


@pytest.mark.parametrize(
    "flag",
    ["--load", "--push", "--check", "--no-cache-filter=a", "--secret=id=a", "--ssh=default",
     "--output=x", "-o x", "-ox", "--build-context=a=b", "--cache-to=x", "--builder=x",
     "--metadata-file=x", "--provenance=false", "--sbom=true", "--attest=x", "--annotation=a=b",
     "--allow=x", "--call=check", "--print=outline"],
)  # fmt: skip
def test_a_flag_of_buildkit_is_named_with_what_to_do(
    flag: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = netkit(f"build {flag} plain", daemon, place, capfd)
    assert (found["code"], found["asked"], found["err"].count("\n")) == (125, [], 1)
    name = flag[:2] if flag.startswith("-o") else flag.partition("=")[0]
    assert f"{name} belongs to BuildKit, which is not here: " in found["err"]
    assert "docs/build.md" in found["err"]


@pytest.mark.parametrize("shown", ["auto", "plain"])
def test_a_progress_that_is_there_changes_nothing(
    shown: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert netkit(f"build --progress {shown} plain", daemon, place, capfd) == CASES["build plain"]


@pytest.mark.parametrize("shown", ["tty", "rawjson", "quiet", ""])
def test_a_progress_that_is_not_there_is_refused(
    shown: str, daemon: FakeDaemon, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = netkit(f"build --progress={shown} plain", daemon, place, capfd)
    assert (found["code"], found["asked"]) == (125, [])
    assert "only auto and plain" in found["err"]
