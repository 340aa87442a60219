"""A plan has the steps and the errors of the operation, and leaves rows and host as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netkit.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidSpec,
    NotFound,
)
from netkit.model import Link
from netkit.network.config import NetworkConfig
from netkit.reconcile.plan import Op, Plan
from netkit.spec import NetworkSpec
from tests.unit.netkit.network.test_controller import BR, IP, Bench, box, on, sub, tcp


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    b = Bench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    for holder in list(b.ports._by_holder):
        b.ports.release(holder)
    b.database.close()


def everything(bench: Bench) -> object:
    """The host, and all rows of all tables."""
    tables = bench.database.rows("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")
    rows = {
        str(t["name"]): [tuple(r) for r in bench.database.rows(f"SELECT * FROM {t['name']}")]
        for t in tables
    }
    return dict(bench.kernel.things), rows


def named(name: str, **more: object) -> NetworkSpec:
    return NetworkSpec(name=name, options={f"{BR}name": "lane0"}, **more)  # type: ignore[arg-type]


def without_id(plan: Plan) -> list[str]:
    """Its steps; owner marks and ids are drawn anew each time."""
    return [str(op) for op in plan]


def test_a_creation_is_planned_as_it_is_done(bench: Bench) -> None:
    spec = named("back", subnets=sub("10.5.0.0/24"))
    before = everything(bench)
    planned = bench.net.plans.create(spec)
    assert everything(bench) == before
    assert planned.record.spec.subnets[0].gateway == "10.5.0.1"
    bench.net.create(spec)
    done = bench.inline.plans[-1]
    assert without_id(planned.steps) == without_id(done)
    assert "+ bridge lane0" in without_id(planned.steps)


def test_a_subnet_that_is_chosen_stays_free(bench: Bench) -> None:
    chosen = [bench.net.plans.create(NetworkSpec(name="a")).record.spec.subnets for _ in "12"]
    assert chosen[0] == chosen[1] == bench.net.create(NetworkSpec(name="a")).record.spec.subnets


def test_a_removal_is_planned_as_it_is_done(bench: Bench) -> None:
    bench.net.create(named("back"))
    before = everything(bench)
    record, steps = bench.net.plans.remove("back")
    assert everything(bench) == before
    assert record == bench.net.remove("back")
    assert without_id(steps) == without_id(bench.inline.plans[-1])
    assert "- bridge lane0" in without_id(steps)


def foreign(bench: Bench) -> None:
    bench.kernel.things["link", "", "lane0"] = Link(name="lane0", kind="dummy")


@pytest.mark.parametrize(
    ("arrange", "spec", "error"),
    [
        (lambda b: b.net.create(NetworkSpec(name="back")), NetworkSpec(name="back"), AlreadyExists),
        (lambda b: None, NetworkSpec(name="a", subnets=sub("172.17.0.0/24")), Forbidden),
        (lambda b: None, NetworkSpec(name="a", subnets=sub("no")), InvalidSpec),
        (lambda b: None, NetworkSpec(name="a", driver="nosuch"), NotFound),
        (lambda b: None, NetworkSpec(name="a", driver="host"), Forbidden),
        (lambda b: None, NetworkSpec(name="a", options={f"{BR}mtuu": "1"}), InvalidSpec),
        (lambda b: None, NetworkSpec(name="a", scope="global"), Conflict),
        (lambda b: b.net.create(named("one")), named("two"), Forbidden),
        (foreign, named("back"), Conflict),
    ],
    ids=("name", "overlap", "cidr", "driver", "single", "option", "cluster", "claim", "foreign"),
)  # fmt: skip
def test_what_a_creation_refuses_its_plan_refuses(
    bench: Bench, arrange: Callable[[Bench], object], spec: NetworkSpec, error: type[Exception]
) -> None:
    arrange(bench)
    before = everything(bench)
    with pytest.raises(error) as planned:
        bench.net.plans.create(spec)
    assert everything(bench) == before
    with pytest.raises(error) as real:
        bench.net.create(spec)
    assert (type(planned.value), str(planned.value)) == (type(real.value), str(real.value))


def test_what_a_removal_refuses_its_plan_refuses(bench: Bench) -> None:
    net = bench.net.create(named("back")).record
    bench.net.open(box(), [on(net)], ())
    for ref, error in (("nosuch", NotFound), ("bridge", Forbidden), ("back", Forbidden)):
        said = []
        for attempt in (bench.net.plans.remove, bench.net.remove):
            with pytest.raises(error) as raised:
                attempt(ref)
            said.append(str(raised.value))
        assert said[0] == said[1]


def test_a_repair_is_planned_of_one_network_or_all(bench: Bench) -> None:
    net = bench.net.create(named("back")).record
    bench.net.open(box(), [on(net)], [tcp(80, 21450)])
    assert bench.net.plans.repair().steps == bench.net.plans.repair(["back"]).steps == ()
    whole = dict(bench.kernel.things)
    rule = next(k for k, r in whole.items() if k[0] == "rule" and "21450" in str(r))
    for key in (("link", "", "lane0"), ("addr", "", "docker0"), rule):
        for k in [k for k in whole if k[: len(key)] == key]:
            del bench.kernel.things[k]
    before = everything(bench)
    back, every = bench.net.plans.repair(["back"]), bench.net.plans.repair()
    assert everything(bench) == before
    assert "+ bridge lane0" in without_id(back.steps)
    assert any("21450" in step for step in without_id(back.steps))
    assert not any("docker0" in step and "address" in step for step in without_id(back.steps))
    assert len(every.steps) > len(back.steps)
    with pytest.raises(NotFound, match="network nosuch not found"):
        bench.net.plans.repair(["nosuch"])


def test_rules_that_no_row_needs_are_in_the_plan_of_all(bench: Bench) -> None:
    net = bench.net.create(named("back")).record
    stale = [
        r for r in bench.kernel.things.values() if r.is_firewall and net.id[:12] in str(r.owner)
    ]
    bench.net.remove("back")
    bench.kernel.things |= {r.key: r for r in stale}
    steps = bench.net.plans.repair().steps
    assert stale
    assert {op.before for op in steps} == set(stale)
    assert all(isinstance(op, Op) and op.after is None for op in steps)
