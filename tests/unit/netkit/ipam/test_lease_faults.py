"""Whatever call fails while leases are taken, renewed, lost and given back.

The loop is simulated: one look at all leases after another.  After each fault: the error is
raised or logged, the other lease is renewed, an endpoint whose lease has ended is off its network,
and no server is left with a lease that no endpoint has, unless it could not be reached.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from netkit.driver import Segment
from netkit.ipam.dhcp.client import Client, Stage
from netkit.ipam.dhcp.message import RELEASE, Datagram
from netkit.ipam.dhcp_leases import RENEWAL, DhcpLeases
from netkit.store import Database
from tests.unit.netkit.ipam.test_dhcp import Server, play
from tests.unit.points import ERRORS, Faulty, Points

STAYS, LEAVES, REFUSED = "stays", "leaves", "refused"


@dataclass
class Record:
    id: str
    mac: str
    owner_name: str = "web"
    spec: Any = field(default_factory=lambda: type("Spec", (), {"ip": ""}))


class Wire:
    """Servers on links named after the endpoints."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.servers = {e: Server(gives=f"10.0.0.{n}") for n, e in enumerate(ALL, 7)}
        self._now = now

    def exchange(self, link: str, client: Client, seconds: float) -> None:
        before = client.lease, client.stage

        def answered() -> bool:
            now = client.lease, client.stage
            return now != before and client.stage in {Stage.BOUND, Stage.LOST}

        play(client, self.servers[link], self._now(), self._now() + seconds, answered)

    def send(self, link: str, d: Datagram) -> None:
        self.servers[link].answer(d)


ALL = (LEAVES, REFUSED, STAYS)


class World:
    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.points = Points()
        self.database = Database(folder / "db")
        self.database.execute("CREATE TABLE IF NOT EXISTS endpoints (id TEXT PRIMARY KEY)")
        self.wire = Wire(lambda: self.now)
        self.raised: list[Exception] = []
        self.daemon()

    def daemon(self) -> None:
        """Start a new daemon, which has no thread."""
        database: Any = Faulty(self.points, "database", self.database)
        wire: Any = Faulty(self.points, "wire", self.wire)
        self.leases = DhcpLeases(database, wire, now=lambda: self.now, random=lambda n: 7)
        self.leases._wake_renewal_thread = lambda: None  # type: ignore[method-assign]
        self.leases.on_lost = self.lose

    def lose(self, endpoint: str) -> None:
        self.points.hit("lost")
        self.leave(endpoint)
        self.leases.release_orphans()

    def leave(self, endpoint: str) -> None:
        self.database.execute("DELETE FROM endpoints WHERE id=?", (endpoint,))

    def step(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            self.raised.append(error)

    def take(self, endpoint: str) -> None:
        record: Any = Record(endpoint, f"02:00:00:00:00:0{ALL.index(endpoint)}")
        try:
            self.database.execute("INSERT INTO endpoints VALUES (?)", (endpoint,))
            self.leases.acquire(record, Segment(link=endpoint, probe=0), lambda a: "")
        except Exception:
            self.leave(endpoint)
            raise

    def look(self, seconds: float) -> None:
        self.now += seconds
        for held in self.leases._all():
            self.leases._attempted(held)

    def run_all(self) -> None:
        for endpoint in ALL:
            self.step(lambda e=endpoint: self.take(e))  # type: ignore[misc]
        self.wire.servers[REFUSED].refuse = True
        for seconds in (600, RENEWAL, 600, RENEWAL):  # the time of renewal, and once more
            self.step(lambda s=seconds: self.look(s))  # type: ignore[misc]
        self.leave(LEAVES)
        self.step(self.leases.release_orphans)
        self.points.fail = None
        self.look(RENEWAL)
        self.leases.release_orphans()

    def endpoints(self) -> set[str]:
        return {row["id"] for row in self.database.rows("SELECT id FROM endpoints")}

    def rows(self) -> set[str]:
        return {row["endpoint"] for row in self.database.rows("SELECT * FROM dhcp_leases")}


@pytest.fixture
def made(memory: Path) -> Iterator[Callable[[], World]]:
    worlds: list[World] = []

    def make() -> World:
        folder = memory / str(len(worlds))
        folder.mkdir()
        worlds.append(World(folder))
        return worlds[-1]

    yield make
    for world in worlds:
        world.database.close()


def wrong(world: World) -> list[str]:
    found = []
    if world.endpoints() != world.rows():
        found.append(f"endpoints {world.endpoints()}, leases {world.rows()}")
    if REFUSED in world.endpoints():
        found.append("an endpoint whose lease has ended is on its network")
    left = world.wire.servers[LEAVES]
    if LEAVES not in world.endpoints() and RELEASE not in left.kinds and left.kinds[1:]:
        found.append("not given back")
    return found


def test_leases_are_renewed_lost_and_given_back(made: Callable[[], World]) -> None:
    world = made()
    world.run_all()
    assert (wrong(world), world.raised, world.endpoints()) == ([], [], {STAYS})
    assert world.wire.servers[STAYS].kinds.count(3) > 2  # requests
    assert RELEASE not in world.wire.servers[REFUSED].kinds


@pytest.mark.slow
def test_whatever_fails_leases_stay_consistent(
    made: Callable[[], World], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first = made()
    first.run_all()
    points, bad = dict.fromkeys(first.points.met), []
    for point in points:
        for make in ERRORS:
            world, error = made(), make()
            caplog.clear()
            world.points.fail = (point, error)
            world.run_all()
            reported = any(str(error) in r.getMessage() for r in caplog.records)
            found = [
                t for t in wrong(world) if not (point.startswith("wire.send") and "given" in t)
            ]
            if world.points.failed and not reported and error not in world.raised:
                found.append("silence")
            if world.points.failed and found:
                bad.append(f"{point}: {type(error).__name__}: {found}")
    print(f"{len(points)} points, {len(points) * len(ERRORS)} runs, {len(bad)} wrong")
    assert not bad, "\n".join(bad)


def test_a_lease_that_cannot_be_read_does_not_hinder_renewal_of_the_rest(
    made: Callable[[], World], caplog: pytest.LogCaptureFixture
) -> None:
    world = made()
    for endpoint in ALL:
        world.take(endpoint)
    world.database.execute("UPDATE dhcp_leases SET doc='{' WHERE endpoint=?", (LEAVES,))
    asked = len(world.wire.servers[STAYS].received)
    world.daemon()
    world.look(600)
    assert len(world.wire.servers[STAYS].received) > asked
    assert f"DHCP lease of endpoint {LEAVES}: its row cannot be read" in caplog.text
    for endpoint in (LEAVES, STAYS):
        world.leave(endpoint)
    world.leases.release_orphans()
    assert world.rows() == {REFUSED}
    assert RELEASE in world.wire.servers[STAYS].kinds


def test_a_daemon_killed_at_the_end_of_a_lease_takes_the_endpoint_off_at_the_next_start(
    made: Callable[[], World],
) -> None:
    world = made()
    world.take(REFUSED)
    world.wire.servers[REFUSED].refuse = True
    world.points.cut = "lost 1"
    with pytest.raises(BaseException):  # noqa: B017, PT011
        world.look(600)
    assert world.endpoints() == {REFUSED}
    world.points = Points()
    world.daemon()
    world.look(RENEWAL)
    assert (world.endpoints(), world.rows()) == (set(), set())
    assert RELEASE not in world.wire.servers[REFUSED].kinds
