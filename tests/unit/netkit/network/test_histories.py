"""Random events on a host and its cluster: after the last fault, all state is consistent.

Users, other hosts, failing steps, an unreachable Open vSwitch and kills of the daemon, at random
and seeded; then guards and followers get their turns, and rows, cluster and host must agree.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from netkit.cluster import transactions
from netkit.cluster.following import Following
from netkit.cluster.state import Member, Own
from netkit.errors import KernelError, NetkitError, Unreachable
from netkit.ipam.pools import parse_subnets
from netkit.kernel.ovs.ovsdb import KEPT
from netkit.model import Key, State
from netkit.model.openvswitch import OvsBridge
from netkit.network.controller import Controller
from netkit.reconcile.plan import Op
from netkit.spec import NetworkRecord, NetworkSpec, Sandbox, SubnetSpec
from netkit.testing.kernel import Inline
from runtime.daemon.ovs_resync import in_openvswitch
from tests.unit.netkit.cluster.fake_ovsdb import Server
from tests.unit.netkit.cluster.test_following import ME, FakeClient
from tests.unit.netkit.network.test_controller import box, on
from tests.unit.netkit.network.test_global_networks import OvsBench
from tests.unit.netkit.reconcile.test_retry import Jammed

OTHER = Member(id="e2", name="h2", address="10.0.0.2")
EVENTS = 60  # of one history
CALM = 6  # turns of everybody, afterwards


@dataclass
class Sulking(Jammed):
    """While `unreachable`, Open vSwitch does not answer; what is `broken` cannot be changed."""

    unreachable: bool = False
    broken: str = ""

    def observe(self, keys: Iterable[Key]) -> State:
        keys = list(keys)
        self._ask(keys)
        return super().observe(keys)

    def _step(self, op: Op) -> None:
        self._ask([op.subject.key])
        if self.broken and self.broken in op.subject.key:
            raise KernelError(f"{self.broken} is broken")
        super()._step(op)

    def _ask(self, keys: Iterable[Key]) -> None:
        if self.unreachable and any(key[0] in KEPT for key in keys):
            raise Unreachable("Open vSwitch does not answer", KEPT)

    def switched(self, prefix: str) -> State:
        self._ask([(kind,) for kind in KEPT])
        return {k: r for k, r in self.owned(prefix).items() if k[0] in KEPT}


class History:
    def __init__(self, path: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bench = OvsBench(path)
        self.kernel = self.bench.kernel = Sulking()
        self.bench.inline = Inline(self.kernel, "e1")
        self.server = Server()
        self.server.run(transactions.Settle(OTHER, Own))
        self.client = FakeClient(self.server)
        self.bench.join(self.client)
        self.follow()
        self.alive: dict[str, Sandbox] = {}
        self.made_elsewhere = 0
        self.log: list[str] = []

    @property
    def net(self) -> Controller:
        return self.bench.net

    def follow(self) -> None:
        self.following = Following(
            self.client, self.net.global_networks, lambda: ME, keep=lambda: None
        )

    # what happens

    def event(self) -> None:
        trouble = self.rng.choice(["", "", "", "jam", "jam", "unreachable", "meanwhile"])
        self.kernel.left = self.rng.randrange(25) if trouble == "jam" else None
        self.kernel.unreachable = trouble == "unreachable"
        if trouble == "meanwhile":
            act = self.rng.choice([self.remove, self.create_global])
            self.client.meanwhile = lambda: self.attempt(act)
        acts = [self.create, self.create_global, self.remove, self.elsewhere, self.remove_elsewhere,
                self.turn, self.turn, self.open, self.close, self.join, self.leave, self.guard,
                self.guard_driver, self.kill]  # fmt: skip
        self.attempt(self.rng.choice(acts), trouble)
        self.client.meanwhile = lambda: None
        self.kernel.left, self.kernel.unreachable = None, False

    def attempt(self, act: Callable[[], object], trouble: str = "") -> None:
        self.log.append(f"{trouble}: {act.__name__}")
        try:
            act()
        except NetkitError as error:
            self.log[-1] += f": {error}"

    def name(self) -> str:
        return self.rng.choice(["wide", "mesh", "deep"])

    def any_name(self) -> str:
        return self.rng.choice(["", "own-"]) + self.name()

    def create(self) -> None:
        self.net.create(NetworkSpec(name=f"own-{self.name()}", driver="ovs"))

    def create_global(self) -> None:
        self.net.create(NetworkSpec(name=self.name(), driver="ovs", scope="global"))

    def remove(self) -> None:
        self.net.remove(self.any_name())

    def elsewhere(self) -> None:
        self.made_elsewhere += 1
        n = self.made_elsewhere
        subnet = SubnetSpec(subnet=f"10.{100 + n}.0.0/24", gateway=f"10.{100 + n}.0.1")
        spec = NetworkSpec(name=self.name(), driver="ovs", scope="global", subnets=(subnet,))
        id = hashlib.sha256(str(n).encode()).hexdigest()
        record = NetworkRecord(id=id, spec=spec, created="now")
        self.server.run(partial(transactions.create, record, parse_subnets(spec.subnets)))

    def remove_elsewhere(self) -> None:
        if there := list(self.server.rows["Network"].values()):
            self.server.run(partial(transactions.remove, self.rng.choice(there)["id"]))

    def turn(self) -> None:
        self.following._turn()

    def open(self) -> None:
        made = box(self.rng.choice(["web", "db"]))
        if made.id not in self.alive:
            if self.rng.random() < 0.5:
                self.net.prepare(made)
            self.net.open(made, [on(self.net.find("bridge"))], [])
            self.alive[made.id] = made

    def close(self) -> None:
        for id in list(self.alive)[:1]:
            self.net.close(id)
            del self.alive[id]

    def join(self) -> None:
        for sandbox in self.alive.values():
            self.net.connect(sandbox, on(self.net.find(self.any_name())))

    def leave(self) -> None:
        for id in self.alive:
            self.net.disconnect(id, self.net.find(self.any_name()).id)

    def guard(self) -> None:
        self.net.repair()

    def guard_driver(self) -> None:
        self.net.repair_drivers(in_openvswitch, self.kernel.switched)

    def kill(self) -> None:
        self.bench.killed()
        self.follow()
        self.net.restore(dict(self.alive))

    # and what must be true at last

    def calm(self) -> None:
        for _ in range(CALM):
            for act in (self.turn, self.guard_driver, self.guard):
                self.attempt(act)

    def disorder(self) -> list[str]:
        parts = self.net._parts
        records = [r for r in self.net.all() if r.spec.driver == "ovs"]
        here = {r.id for r in records if r.spec.scope == "global"}
        bridges = {r.name for r in self.bench.things().values() if isinstance(r, OvsBridge)}
        found = [f"{state}: {entry.name}" for state, entry in parts.registry.unfinished()]
        found += [f"owed: {debt.what}" for _, debt in parts.retries._some()]
        found += [f"problem: {p}" for p in self.following.problems.items()]
        if here != {row["id"] for row in self.server.rows["Network"].values()}:
            found.append("this host and the cluster have not the same networks")
        if bridges - {"nku0"} != {f"nko{r.id}"[:15] for r in records}:
            found.append(f"bridges: {sorted(bridges)}")
        for look in (
            lambda: self.net.repair_drivers(in_openvswitch, self.kernel.switched),
            self.net.repair,
        ):
            try:
                if (seen := look()) != ((), False):
                    found.append(f"still to do: {seen}")
            except NetkitError as error:
                found.append(f"cannot be repaired: {error}")
        return found

    def close_all(self) -> None:
        for holder in list(self.bench.ports._by_holder):
            self.bench.ports.release(holder)
        self.bench.database.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(40), 236, 355, 384])
def test_all_is_in_order_at_last(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "db", seed)
    try:
        for _ in range(EVENTS):
            history.event()
        history.calm()
        assert history.disorder() == [], "\n".join(history.log)
    finally:
        history.close_all()


def test_what_was_left_behind_is_not_in_the_way_of_what_came_since(tmp_path: Path) -> None:
    """A global network was removed while Open vSwitch was unreachable, then created again."""
    history = History(tmp_path / "db", 0)
    try:
        history.create_global()
        history.turn()
        (first,) = (r for r in history.net.all() if r.spec.scope == "global")
        history.kernel.unreachable = True
        history.net.remove(first.spec.name)
        history.kernel.unreachable = False
        spec = NetworkSpec(
            name=first.spec.name, driver="ovs", scope="global", subnets=first.spec.subnets
        )
        again = NetworkRecord(id="b" * 64, spec=spec, created="now")
        history.server.run(partial(transactions.create, again, parse_subnets(spec.subnets)))
        history.turn()
        assert "same configuration" in str(history.following.problems)
        history.guard_driver()
        history.turn()
        assert history.disorder() == []
    finally:
        history.close_all()


def test_one_networks_trouble_does_not_hinder_the_rest(tmp_path: Path) -> None:
    history = History(tmp_path / "db", 0)
    try:
        made = [history.net.create(NetworkSpec(name=n, driver="ovs"))[0] for n in ("bad", "good")]
        bad, good = (("ovsbridge", f"nko{record.id}"[:15]) for record in made)
        for key in (bad, good):  # other hosts remove them
            history.kernel.apply([Op(history.kernel.things[key], None)])
        history.kernel.broken = bad[1]
        with pytest.raises(KernelError, match="is broken"):
            history.guard_driver()
        assert good in history.kernel.things
        assert bad not in history.kernel.things
        history.kernel.broken = ""
        history.guard_driver()
        assert history.disorder() == []
    finally:
        history.close_all()
