"""`netkit cluster`: what it asks and prints, in golden/cluster.txt.

NETKIT_UPDATE_GOLDEN=1 writes that file anew.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from netkit.cli.app import run
from netkit.cluster.client import Client
from netkit.cluster.servers import LocalServer
from netkit.network.global_networks import GlobalNetworks
from runtime.network.cluster import ClusterService
from tests.unit.netkit.cli import cli_cases
from tests.unit.netkit.cli.cli_fake_daemon import CLUSTERS, FakeDaemon, running

GOLDEN = Path(__file__).parent / "golden" / "cluster.txt"
UPDATE = bool(os.environ.get("NETKIT_UPDATE_GOLDEN"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with running(tmp_path / "s") as server:
        yield server


def asked(daemon: FakeDaemon) -> Iterator[str]:
    for method, path, _, body in daemon.record.rows():
        yield " ".join(["asks", method, path, *([json.dumps(body)] if body else [])])


def transcript(
    cases: Mapping[str, str], situation: str, daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> str:
    """Everything that was typed, asked, answered, printed and returned."""
    daemon.situation = situation
    entries = [f"# a host that is: {situation}"]
    for line in cli_cases.lines(cases[situation]):
        daemon.record.asked.clear()
        code = run(["-H", f"unix://{daemon.server_address}", *shlex.split(line)])
        out, err = capfd.readouterr()
        entries += ["", f"$ netkit {line}", *asked(daemon), *out.splitlines()]
        entries += [f"stderr: {each}" for each in err.splitlines()]
        entries += [f"exit {code}"] if code else []
    return "\n".join(entries) + "\n"


def test_commands_ask_and_print_what_is_golden(
    daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    cases = cli_cases.CLUSTER
    found = "\n".join(transcript(cases, each, daemon, capfd) for each in cases)
    if UPDATE:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_the_fake_answers_as_the_engine_does(tmp_path: Path) -> None:
    engine = ClusterService(
        "e1",
        Client("e1"),
        LocalServer(tmp_path / "folder", tmp_path / "run"),
        cast(GlobalNetworks, None),
    )
    status: dict[str, Any] = engine.status()
    assert status == CLUSTERS["nowhere"]
    assert all(fake.keys() == status.keys() for fake in CLUSTERS.values())
