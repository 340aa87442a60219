"""Series of changes, drift, the overlay and the engine."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from netkit.model import Rule
from netkit.reconcile.plan import Op
from netkit.reconcile.resync import ResyncStats
from netkit.reconcile.statistics import BUCKETS, ChangeStatistics, DriftStatistics
from runtime.api.server.request_tally import RequestTally
from runtime.metrics import engine
from runtime.metrics.changes import changes, drift
from runtime.metrics.overlay import overlay


def values(figures: Any) -> dict[str, Any]:
    return {each.series.name: dict(each.values) for each in figures}


def test_changes_are_counted_by_outcome_and_time() -> None:
    statistics = ChangeStatistics()
    statistics.add("changed", 0.003, 5)
    statistics.add("changed", 0.0025)
    statistics.add("failed", 500.0)
    found = {f.series.name: f for f in changes(statistics.counts, lambda: 7)}
    assert found["netkit_converges_total"].values == {
        ("changed",): 2, ("unchanged",): 0, ("conflict",): 0, ("failed",): 1, ("late",): 0,
    }  # fmt: skip
    assert found["netkit_converge_steps_total"].values == {(): 5}
    assert found["netkit_converges_waiting"].values == {(): 7}
    buckets = found["netkit_converge_duration_seconds"].buckets
    assert buckets is not None
    counts = dict(buckets.cumulative)
    assert (counts[0.001], counts[0.0025], counts[0.005]) == (0, 1, 2)
    assert (counts[120.0], counts[math.inf]) == (2, 3)
    assert list(counts) == [*BUCKETS, math.inf]
    assert buckets.total == 500.0055


def test_drift_is_by_guard_and_kind() -> None:
    links, rules = DriftStatistics(), DriftStatistics()
    step = Op(None, Rule(table="filter", chain="DOCKER", args=("-j", "DROP"), owner="netkit:e:x"))
    rules.repaired((step, step))
    links.add(["link", "addr"], (), ["addr"])
    links.add(["link"], (step,), [])
    guards: Any = {
        "links": SimpleNamespace(tally=ResyncStats(looks=3, failures=1, last=5.0), drift=links),
        "firewall": SimpleNamespace(tally=ResyncStats(), drift=rules),
    }
    found = values(drift(guards))
    assert found["netkit_drift_looks_total"] == {("links",): 3, ("firewall",): 0}
    assert found["netkit_drift_failed_looks_total"][("links",)] == 1
    assert found["netkit_drift_last_repair_timestamp_seconds"][("links",)] == 5.0
    assert found["netkit_drift_found_total"] == {
        ("links", "link"): 2, ("links", "addr"): 1, ("firewall", "rule"): 2,
    }  # fmt: skip
    assert found["netkit_drift_repaired_total"] == {("links", "rule"): 1, ("firewall", "rule"): 2}
    assert found["netkit_drift_left_alone"] == {}


IPAM = {"range": "10.32.0.0/12", "active": 3, "unreachable": 0.25, "fenced": None}
STATUS = {
    "peers": [{"state": "alive"}, {"state": "alive"}, {"state": "odd"}],
    "connections": [{"state": "established", "way": "fastdp", "encrypted": False}],
    "dropped": {"replayed": 2}, "names": [1, 2], "warnings": ["x"], "ipam": IPAM,
}  # fmt: skip


def test_an_overlay_that_runs_is_described() -> None:
    found = values(overlay(lambda: {
        "Launched": True, "Running": True, "Status": STATUS, "Warnings": ["y"],
    }))  # fmt: skip
    assert found["netkit_overlay_peers"] == {
        ("alive",): 2, ("suspect",): 0, ("dead",): 0, ("other",): 1,
    }  # fmt: skip
    assert found["netkit_overlay_connections"] == {("established", "fastdp", "false"): 1}
    assert found["netkit_overlay_ipam_addresses"] == {(): 1 << 20}
    assert found["netkit_overlay_ipam_fenced"] == {(): 0}
    assert found["netkit_overlay_warnings"] == {(): 2}


def test_of_one_that_does_not_run_only_that_is_known() -> None:
    found = values(overlay(lambda: {"Launched": True, "Running": False, "Status": None}))
    assert found == {"netkit_overlay_launched": {(): 1}, "netkit_overlay_up": {(): 0}}


def test_every_state_of_containers_has_a_value() -> None:
    found = values(engine.containers(lambda: ["running", "running", "dead"]))
    assert found["netkit_containers"] == {
        (state,): {"running": 2, "dead": 1}.get(state, 0) for state in engine.STATES
    }


def test_requests_are_by_method_and_class() -> None:
    tally = RequestTally()
    for method, status in (("GET", 200), ("GET", 204), ("POST", 409), ("BREW", 404), ("GET", None)):
        tally.begin()
        tally.end(method, status)
    tally.begin()
    found = values(engine.requests(tally))
    assert found["netkit_api_requests_total"] == {
        ("GET", "2xx"): 2, ("POST", "4xx"): 1, ("other", "4xx"): 1, ("GET", "aborted"): 1,
    }  # fmt: skip
    assert found["netkit_api_open_requests"] == {(): 1}
