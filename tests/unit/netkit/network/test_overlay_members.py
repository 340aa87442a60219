"""Containers of other hosts on an overlay's network: names and access rules, no resources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.dns.zones import Published
from netkit.errors import KernelError
from netkit.model import Rule
from netkit.network.access import AccessRule
from netkit.network.config import NetworkConfig
from netkit.network.remote import AddedName, RemoteContainer, RemoteHost, RemoteState
from netkit.spec import NetworkSpec
from netkit.store import Database
from tests.unit.netkit.network.test_controller import IP, box, on, sub
from tests.unit.netkit.network.test_overlay_addresses import OverlayBench

H2 = RemoteHost(id="2" * 32, name="h2", address="192.0.2.2")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[OverlayBench]:
    b = OverlayBench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    b.database.close()


def container(network: str, name: str = "db", *more: str) -> RemoteContainer:
    return RemoteContainer(
        id=name.encode().hex(), network=network, host=H2.id, host_address=H2.address,
        sandbox=f"{name.encode().hex()}{H2.id}", owner=name, address="10.32.0.77",
        more_addresses=more, mac="02:42:0a:20:00:4d", names=(name, "store"),
    )  # fmt: skip


def state(network: str, *more: str) -> RemoteState:
    return RemoteState(
        peers=(H2.address,), neighbours=(container(network, "db", *more),), hosts=(H2,),
        names=(AddedName(name="site", addresses=("192.0.2.9",)),),
    )  # fmt: skip


def sources(bench: OverlayBench) -> set[str]:
    """Sources of rules in the kernel that are of the network's."""
    rules = [r for r in bench.things().values() if isinstance(r, Rule)]
    return {word for r in rules for word in " ".join(map(str, r.args)).split() if "/32" in word}


def test_their_names_are_published_and_rules_that_name_them_are_in_force_as_long_as_they_are_there(
    bench: OverlayBench,
) -> None:
    lane = bench.network("lane")
    spec = NetworkSpec(name="other", driver="weave", subnets=sub("10.33.0.0/24"))
    other = bench.net.create(spec).record
    bench.net.open(box(), [on(lane)], [])
    before = bench.things()
    members = bench.net.overlay_members
    members.update({lane.id: state(lane.id, "192.168.1.2")})
    assert bench.things() == before  # frames are the overlay's process's affair
    assert members.published(lane.id) == (
        Published(names=("db", "store"), addresses=("10.32.0.77", "192.168.1.2")),
        Published(names=("site",), addresses=("192.0.2.9",)),
    )
    assert (members.hosts(lane.id), members.hosts(other.id)) == ((H2,), ())
    assert members.published(other.id) == members.published("nonsense") == ()
    assert bench.names_seen.refreshed == [lane.id]
    theirs = container(lane.id).sandbox
    bench.net.add_access_rule(AccessRule(verdict="drop", source=theirs, target=box().id))
    assert {"10.32.0.77/32", "192.168.1.2/32"} <= sources(bench)
    members.update({lane.id: RemoteState(hosts=(H2,))})
    assert "10.32.0.77/32" not in sources(bench)
    members.update({lane.id: state(lane.id, "192.168.1.2")})
    assert "10.32.0.77/32" in sources(bench)
    members.update({})
    assert not sources(bench) & {"10.32.0.77/32", "192.168.1.2/32"}
    assert members.published(lane.id) == ()
    assert bench.net.global_networks.remote_endpoints() == []


def test_what_is_known_stays_when_netkitd_is_killed_and_goes_with_the_network(
    bench: OverlayBench,
) -> None:
    lane = bench.network("lane")
    bench.net.overlay_members.update({lane.id: state(lane.id)})
    bench.killed()
    bench.net.start()
    assert [r.owner_name for r in bench.net.global_networks.remote_endpoints()] == ["db"]
    bench.net.remove("lane")
    assert bench.net.global_networks.remote_endpoints() == []
    bench.net.overlay_members.update({lane.id: state(lane.id)})
    assert bench.net.global_networks.remote_endpoints() == []


def test_rules_that_could_not_be_changed_are_with_the_next_update(
    bench: OverlayBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network("lane")
    bench.net.open(box(), [on(lane)], [])
    theirs = container(lane.id).sandbox
    bench.net.add_access_rule(AccessRule(verdict="drop", source=theirs, target=box().id))
    with monkeypatch.context() as patched:
        patched.setattr(bench.inline, "converge", _jammed)
        with pytest.raises(KernelError, match="jammed"):
            bench.net.overlay_members.update({lane.id: state(lane.id)})
    assert "10.32.0.77/32" not in sources(bench)
    assert bench.names_seen.refreshed == [lane.id]
    bench.net.overlay_members.update({lane.id: state(lane.id)})
    assert "10.32.0.77/32" in sources(bench)


def _jammed(*_: object) -> None:
    raise KernelError("jammed")


def test_what_is_the_same_is_not_written_again(
    bench: OverlayBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network("lane")
    bench.net.overlay_members.update({lane.id: state(lane.id)})
    written: list[str] = []
    monkeypatch.setattr(Database, "execute", lambda _, statement, *rest: written.append(statement))
    bench.net.overlay_members.update({lane.id: state(lane.id)})
    assert written == []


def test_a_row_that_cannot_be_read_is_written_again(bench: OverlayBench) -> None:
    lane = bench.network("lane")
    members, remote = bench.net.overlay_members, bench.net._parts.registry.remote_state
    members.update({lane.id: state(lane.id)})
    (row,) = bench.database.rows("SELECT doc FROM around")
    for damaged in (b"nonsense", 7, "[]"):
        bench.database.execute("UPDATE around SET doc=?", (damaged,))
        assert (remote.unreadable(), remote.records()) == ({lane.id}, [])
        assert [left.id for left in bench.database.left_out()] == [lane.id]
        bench.database.execute("UPDATE around SET doc=?", (row["doc"],))
        assert remote.complete()
        assert bench.database.left_out() == []
    bench.database.execute("UPDATE around SET doc=?", (b"nonsense",))
    members.update({lane.id: state(lane.id)})
    assert remote.complete()
    assert remote.of(lane.id) == state(lane.id)
