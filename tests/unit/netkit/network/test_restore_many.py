"""A start of the daemon beside many containers: few looks at the host, and few rows written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from netkit.kernel.session import OPEN_AT_ONCE
from netkit.model import HOST, Key, State, Sysctl
from netkit.network.restore import Together
from netkit.reconcile.converge import Change
from netkit.spec import NetworkSpec, Sandbox
from tests.unit.netkit.network.test_controller import Bench, bench, box, on

__all__ = ["bench"]
MANY = 20


def opened(bench: Bench, count: int) -> dict[str, Sandbox]:
    net, _ = bench.net.create(NetworkSpec(name="net"))
    live = {}
    for n in range(count):
        sandbox = box(f"c{n}")
        bench.net.open(sandbox, [on(net)], [])
        live[sandbox.id] = sandbox
    return live


def looks_and_writes(bench: Bench, live: dict[str, Sandbox]) -> tuple[int, int]:
    looks, writes = [], []
    observe, execute = bench.kernel.observe, bench.database.execute

    def observed(keys: Iterable[Key]) -> State:
        looks.append(keys := list(keys))
        return observe(keys)

    def executed(sql: str, args: tuple[object, ...] = ()) -> int:
        writes.append(sql)
        return execute(sql, args)

    bench.kernel.observe, bench.database.execute = observed, executed  # type: ignore[method-assign, assignment]
    bench.net.restore(live)
    del bench.kernel.observe, bench.database.execute
    return len(looks), len(writes)


def test_looks_and_writes_of_a_start_do_not_grow_with_the_containers(bench: Bench) -> None:
    live = opened(bench, MANY)
    before = bench.things()
    bench.killed()
    looks, writes = looks_and_writes(bench, live)
    assert bench.things() == before
    assert looks <= 4  # what networks share, all containers, and what each change verifies
    assert writes <= 2  # none for a container that is as it was


def test_what_goes_with_a_namespace_is_not_looked_at_when_it_is_closed(bench: Bench) -> None:
    (sandbox,) = opened(bench, 1).values()
    before, looks = bench.things(), set[Key]()
    observe = bench.kernel.observe

    def observed(keys: Iterable[Key]) -> State:
        looks.update(keys := list(keys))
        return observe(keys)

    bench.kernel.observe = observed  # type: ignore[method-assign, assignment]
    bench.net.close(sandbox.id)
    inside = {key for key, r in before.items() if getattr(r, "ns", HOST) == sandbox.ns}
    assert {key[0] for key in inside} == {"addr", "route"}
    assert not looks & inside
    assert not bench.things().keys() & inside


def test_queries_of_a_start_do_not_grow_with_the_containers(bench: Bench) -> None:
    live, queries = opened(bench, MANY), []
    bench.killed()
    rows = bench.database.rows

    def noted(sql: str, args: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        queries.append(sql)
        return rows(sql, args)

    bench.database.rows = noted  # type: ignore[method-assign, assignment]
    bench.net.restore(live)
    del bench.database.rows
    assert len(queries) < 2 * MANY


def test_queries_of_a_look_at_links_do_not_grow_with_the_containers(bench: Bench) -> None:
    opened(bench, MANY)
    queries: list[str] = []
    rows = bench.database.rows

    def noted(sql: str, args: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        queries.append(sql)
        return rows(sql, args)

    bench.database.rows = noted  # type: ignore[method-assign, assignment]
    bench.net.links.check()
    bench.net.repair()
    del bench.database.rows
    assert len(queries) < 2 * MANY


def test_a_look_has_room_for_all_namespaces_of_a_change() -> None:
    """One socket is the host's.  With more each is opened for each pass over the namespaces."""
    assert Together.MOST < OPEN_AT_ONCE


def test_more_than_the_most_at_a_time_are_all_restored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Together, "MOST", 3)
    live = opened(bench, 8)
    before = bench.things()
    for key in [k for k in bench.kernel.things if k[0] == "link" and str(k[1]).endswith("/c7")]:
        bench.kernel.things.pop(key)
    bench.killed()
    bench.net.restore(live)
    assert bench.things() == before


def test_one_container_that_cannot_be_restored_keeps_no_other_from_it(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    live = opened(bench, 4)
    before = bench.things()
    ends = {n: [k for k in before if k[0] == "addr" and str(k[1]).endswith(f"/c{n}")]
            for n in (1, 2)}  # fmt: skip
    for keys in ends.values():
        for key in keys:
            bench.kernel.things.pop(key)
    bench.killed()
    refused = bench.kernel.apply

    def apply(ops):  # type: ignore[no-untyped-def]
        if any(op.subject.key in ends[1] for op in ops):
            bench.kernel.fail_at = 0
        refused(ops)

    bench.kernel.apply = apply  # type: ignore[method-assign]
    bench.net.restore(live)
    assert {k for k in before if k not in bench.things()} == set(ends[1])
    assert "restore the network of c1" in caplog.text


def test_changes_that_contradict_each_other_are_made_one_after_the_other() -> None:
    made: list[Change] = []
    together = Together(SimpleNamespace(converge=made.append))  # type: ignore[arg-type]
    for name, value in (("a", "1"), ("b", "1"), ("a", "0")):
        setting = Sysctl(name=f"net/{name}", value=value)
        together.add(name, Change.of({setting.key: setting}))
    together.finish()
    assert [sorted(r.value for r in c.desired.values()) for c in made] == [["1", "1"], ["0"]]  # type: ignore[attr-defined]
