"""Rows that cannot be decoded do not stop anything else, and commands report them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from netkit.cli.app import run
from netkit.errors import Forbidden
from netkit.network.endpoint_store import TABLES, EndpointStore, SandboxRecord
from netkit.spec import NetworkRecord, NetworkSpec
from netkit.store import Database
from tests.unit.netkit.cli import cli_fake_daemon
from tests.unit.netkit.network.test_controller import Bench, bench, box, on, tcp

__all__ = ["bench"]

DAMAGE = b'{"id": 5'


@pytest.mark.parametrize("state", ["pending", "leaving"])
def test_a_network_that_was_not_ready_leaves_its_name_free(bench: Bench, state: str) -> None:
    made, _ = bench.net.create(NetworkSpec(name="net"))
    bench.database.execute(
        "UPDATE networks SET state=?, doc=? WHERE id=?", (state, DAMAGE, made.id)
    )
    bench.killed()
    bench.net.start()
    assert "net" not in {n.spec.name for n in bench.net.all()}
    assert not bench.database.rows("SELECT 1 FROM networks WHERE id=?", (made.id,))
    bench.net.create(NetworkSpec(name="net"))


def test_a_network_with_an_endpoint_that_cannot_be_read_is_in_use(bench: Bench) -> None:
    made, _ = bench.net.create(NetworkSpec(name="net"))
    bench.net.open(box(), [on(made)], [])
    bench.database.execute("UPDATE endpoints SET doc=?", (DAMAGE,))
    with pytest.raises(Forbidden, match="active endpoints"):
        bench.net.remove("net")


@pytest.mark.parametrize("command", ["check", "repair"])
@pytest.mark.parametrize("unreadable", [[], ["access rule 12 cannot be read"]])
def test_a_command_about_the_firewall_fails_while_a_rule_cannot_be_read(
    command: str, unreadable: list[str], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found: dict[str, Any] = {"Steps": [], "Enforced": True, "Findings": unreadable}
    with cli_fake_daemon.anywhere() as daemon:
        monkeypatch.setattr(cli_fake_daemon, "_get", lambda path, query, now: found)
        monkeypatch.setattr(cli_fake_daemon, "_change", lambda method, path: found)
        assert run(["-H", f"unix://{daemon.server_address!s}", "fw", command]) == len(unreadable)
    shown = capfd.readouterr()
    assert all(line in shown.out + shown.err for line in unreadable)


def opened(bench: Bench, column: str = "doc") -> NetworkRecord:
    """A network with a sandbox whose row is damaged."""
    made, _ = bench.net.create(NetworkSpec(name="net"))
    bench.net.open(box(), [on(made)], [tcp(80, 8080)])
    bench.database.execute("UPDATE sandboxes SET doc=?", (DAMAGE,))
    if column == "ns":  # damaged before the migration that knows its namespace
        bench.database.execute("UPDATE sandboxes SET ns=NULL")
    return made


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("column", ["doc", "ns"])
def test_a_sandbox_that_cannot_be_read_is_closed_and_forgotten(
    bench: Bench, column: str, killed: bool
) -> None:
    before = bench.things()
    made = opened(bench, column)
    if killed:
        bench.killed()
        bench.net.start()
    bench.net.close(box().id)
    bench.net.forget(box().id)
    bench.net.remove(made.id)
    left = bench.things().keys() - before.keys()
    assert left == (set() if column == "doc" or killed else {("netns", box().ns)})
    assert (bench.held(), bench.ports._by_holder) == (0, {})
    assert bench.database.rows("SELECT * FROM sandboxes") == []
    assert bench.database.left_out() == []


@pytest.mark.parametrize("column", ["doc", "ns"])
def test_a_sandbox_that_cannot_be_read_is_opened_anew(bench: Bench, column: str) -> None:
    made = opened(bench, column)
    (record,) = bench.net.open(box(), [on(made)], [tcp(80, 8080)])
    assert [(p.host_port, p.container_port) for p in record.ports] == [(8080, 80)]
    assert bench.held() == 1
    assert bench.database.left_out() == []


def test_a_container_runs_on_in_a_sandbox_that_cannot_be_read(bench: Bench) -> None:
    opened(bench)
    things = bench.things()
    bench.killed()
    bench.net.restore({box().id: box()})
    assert bench.things() == things
    assert list(bench.ports._by_holder) == [box().id]
    assert bench.database.left_out() == []


def test_the_namespace_of_a_sandbox_is_migrated(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.migrate("endpoints", TABLES[:1])
    opened = SandboxRecord(sandbox=box())
    for id, doc in (("good", msgspec.json.encode(opened)), ("bad", DAMAGE)):
        database.execute("INSERT INTO sandboxes VALUES (?, 'ready', ?)", (id, doc))
    records = EndpointStore(database)
    rows = database.rows("SELECT id, ns FROM sandboxes")
    assert {row["id"]: row["ns"] for row in rows} == {"good": box().ns, "bad": None}
    assert records.sandbox("good") == ("ready", opened)
    database.close()
