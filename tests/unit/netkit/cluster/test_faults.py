"""Whatever call fails, or wherever the daemon is killed, while hosts share networks.

Calls on the kernel, the database and the cluster are points; a transaction is two of them, since
it may have been committed though its answer is lost.  Afterwards follower and guards get a few
turns; then the host's database, the cluster and the kernel agree, the state is as before it or as
after it, and the same request works again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netkit.cluster import transactions
from netkit.cluster.following import Following
from netkit.cluster.state import Member, Own
from netkit.driver import Driver
from netkit.spec import NetworkSpec, SubnetSpec
from plugins.ovs import Ovs
from runtime.daemon.ovs_resync import in_openvswitch
from tests.unit.netkit.cluster.fake_ovsdb import Server
from tests.unit.netkit.cluster.test_cluster import WIDE, create
from tests.unit.netkit.cluster.test_following import ME, FakeClient
from tests.unit.netkit.network.fault_bench import FaultBench
from tests.unit.netkit.network.test_controller import DRIVERS, box, on
from tests.unit.points import ERRORS, Killed, Points

OTHER = Member(id="e2", name="h2", address="10.0.0.2")
SPEC = NetworkSpec(
    name="mine", driver="ovs", scope="global", subnets=(SubnetSpec(subnet="10.80.0.0/24"),)
)
CALM = 3  # turns of follower and guards


class FailingClient(FakeClient):
    points: Points

    def transact(self, write: transactions.Write, patience: float | None = None) -> None:
        self.points.hit("cluster transact")
        super().transact(write, patience)
        self.points.hit("cluster answer")

    def view(self, read: Callable[[Any], Any], patience: float | None = None) -> Any:
        self.points.hit("cluster view")
        return super().view(read, patience)


class ClusterBench(FaultBench):
    drivers: Mapping[str, Driver] = {**DRIVERS, "ovs": Ovs("netdev")}

    def __init__(self, path: Path) -> None:
        self.server = Server()
        self.server.run(transactions.Settle(OTHER, Own))
        super().__init__(path)

    def again(self) -> None:
        self.cluster = self.client = FailingClient(self.server)
        self.client.points = self.points
        super().again()
        self.following = Following(
            self.client, self.net.global_networks, lambda: ME, keep=lambda: None
        )

    def calm(self) -> None:
        self.points.begin()
        for _ in range(CALM):
            self.net.repair_drivers(in_openvswitch)
            self.net.repair()
            self.turn()

    def turn(self) -> None:
        self.following._guarded("the cluster", self.following._turn)

    def states(self) -> set[str]:
        return {row["state"] for row in self.database.rows("SELECT state FROM sandboxes")}

    def remaining(self) -> list[str]:
        """List differences from a freshly restored host, but for the way to the underlay."""
        return [
            text
            for text in self.unlike_new({r.sandbox: box() for r in self.net.endpoints()})
            if not any(word in text for word in ("nku", OTHER.address, "169.254.250."))
        ]

    def gist(self) -> tuple[object, ...]:
        """Return what a user sees, on this host and in the cluster."""
        seen = self.server.rows
        return (
            sorted(n.spec.name for n in self.net.all() if n.spec.scope == "global"),
            sorted(str(row["name"]) for row in seen["Network"].values()),
            sorted(str(row["address"]) for row in seen["Address"].values() if row["host"]),
            sorted((e.address, e.sandbox) for e in self.net.endpoints()),
            sorted(n.id for n in self.net.global_networks.remote_endpoints()),
        )


Act = Callable[[ClusterBench], object]


@dataclass(frozen=True)
class Case:
    before: tuple[Act, ...]
    act: Act


def found(b: ClusterBench) -> None:
    b.net.create(SPEC)


def elsewhere(b: ClusterBench) -> None:
    b.server.run(create())


def removed_elsewhere(b: ClusterBench) -> None:
    b.server.run(partial(transactions.remove, WIDE.id))


def enter(b: ClusterBench) -> None:
    b.net.open(box(), [on(b.net.find("mine"))], [])


CASES = {
    "create": Case((), found),
    "remove": Case((found,), lambda b: b.net.remove("mine")),
    "open": Case((found,), enter),
    "close": Case((found, enter), lambda b: b.net.close(box().id)),
    "adopt": Case((elsewhere,), ClusterBench.turn),
    "drop": Case((elsewhere, ClusterBench.turn, removed_elsewhere), ClusterBench.turn),
}


def started(path: Path, case: Case) -> ClusterBench:
    """Prepare what the act needs."""
    b = ClusterBench(path)
    b.net.start()
    b.calm()
    for act in case.before:
        act(b)
    b.points.begin()
    return b


def hurt(b: ClusterBench, case: Case, how: str, at: int) -> bool:
    """Return whether its error was neither raised nor logged."""
    if how == "killed":
        b.points.begin(cut=at)
        with suppress(Killed):
            case.act(b)
        return False
    b.points.begin(fail=(at, ERRORS[at % len(ERRORS)]()))
    try:
        case.act(b)
    except Exception:
        return False
    return b.points.failed


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fails", "killed"])
@pytest.mark.parametrize("name", CASES)
def test_database_cluster_and_host_agree_again(
    memory: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    case, wrong, met = CASES[name], {}, 0
    b = started(memory / "after", case)
    case.act(b)
    points = list(b.points.met)
    b.calm()
    after = b.gist()
    b.stop()
    for at, point in enumerate(points):
        b = started(memory / str(at), case)
        before = b.gist()
        caplog.clear()
        found = ["silence"] * (hurt(b, case, how, at) and not caplog.records)
        met += b.points.failed or b.points.killed
        if how == "killed":
            b.again()
            b.net.restore({box().id: box()} if "ready" in b.states() else {})
        b.calm()
        lost = point.startswith("names")  # the publishing thread must not raise
        found += [text for text in b.untrue() + b.remaining() if not lost or "names" not in text]
        if b.gist() not in (before, after):
            found.append(f"neither as before nor as after: {b.gist()}")
        elif b.gist() == before:
            case.act(b)
            b.calm()
            found += ["not done the second time"] * (b.gist() != after)
        b.stop()
        if found:
            wrong[point] = found
    print(f"cluster {name}, {how}: {len(points)} points, {len(wrong)} wrong")
    assert met == len(points) > 10
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())
