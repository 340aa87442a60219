"""`netkit ovn`: what it asks and prints, in golden/ovn.txt.

NETKIT_UPDATE_GOLDEN=1 writes that file anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netkit.cluster.ovn import OvnServers
from netkit.errors import InvalidSpec
from runtime.network.ovn import OvnService
from tests.unit.netkit.cli import cli_cases
from tests.unit.netkit.cli.cli_fake_daemon import OVNS, FakeDaemon
from tests.unit.netkit.cli.test_cluster import UPDATE, daemon, transcript

GOLDEN = Path(__file__).parent / "golden" / "ovn.txt"
__all__ = ["daemon"]  # a fixture


def test_commands_ask_and_print_what_is_golden(
    daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    cases = cli_cases.OVN
    found = "\n".join(transcript(cases, each, daemon, capfd) for each in cases)
    if UPDATE:
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_the_fake_answers_as_the_engine_does(tmp_path: Path) -> None:
    status: dict[str, Any] = service(tmp_path).status()
    assert status == OVNS["nowhere"]
    assert all(fake.keys() == status.keys() for fake in OVNS.values())


def service(folder: Path) -> OvnService:
    return OvnService(OvnServers(folder / "folder", folder / "run"))


def test_servers_that_others_reach_need_tls_or_a_word(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"10\.0\.0\.1 without TLS .*-tls-ca.*--insecure"):
        service(tmp_path).up("10.0.0.1", "", insecure=False)


@pytest.mark.parametrize("host", ["nobody", "0.0.0.0", "224.0.0.1"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    for act in (
        lambda s: s.up(host, "", insecure=True),
        lambda s: s.up("", host, insecure=True),
        lambda s: s.down(host, force=False),
    ):
        with pytest.raises(InvalidSpec, match=host):
            act(service(tmp_path))
