"""netkit ovn: what it asks of the daemon, and prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.cli.app import run
from netkit.cli.ovn import summary
from tests.unit.netkit.cli.cli_fake_daemon import OVN, FakeDaemon, running


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with running(tmp_path / "s") as found:
        yield found


def asked(capfd: pytest.CaptureFixture[str], daemon: FakeDaemon, *argv: str) -> tuple[str, str]:
    assert run(["-H", f"unix://{daemon.server_address}", "ovn", *argv]) == 0
    out, err = capfd.readouterr()
    return out, err


def test_up_prints_what_each_host_is_started_with(
    daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    out, err = asked(capfd, daemon, "up", "--address", "10.0.0.1", "--insecure")
    assert out.splitlines()[1] == (
        "netkitd --ovn-nb tcp:10.0.0.1:6641 --ovn-sb tcp:10.0.0.1:6642 --ovn-encap-ip IP"
    )
    assert err.startswith("WARNING: without TLS")


def test_status_names_servers_leaders_and_problems(
    daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    out, _ = asked(capfd, daemon, "status")
    assert "tcp:10.0.0.1:6641 (leader 10.0.0.1)" in out
    assert "tcp:10.0.0.1:6642 (leader none: most servers do not answer)" in out
    assert out.endswith("Problem:     ovn-northd: it has died\n")
    assert summary(OVN | {"Servers": []}) == ["This host has no servers of an OVN: netkit ovn up"]


def test_status_has_a_format(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    assert asked(capfd, daemon, "status", "--format", "{{.Northd}}")[0] == "active\n"
