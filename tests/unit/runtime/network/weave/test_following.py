"""The thread that keeps the overlay's process running and in agreement with the rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import NetkitError
from netkit.overlay import verbs
from runtime.network.weave import following
from runtime.network.weave.desired import Desired
from runtime.network.weave.following import AGAIN, FEW, differences
from runtime.network.weave.warning_log import WarningLog
from tests.unit.runtime.network.weave.host_bench import HostBench, box, eventually


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[HostBench]:
    made = HostBench(tmp_path)
    yield made
    made.following.stop()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "netkit-weave"]


def test_the_process_has_what_is_on_this_host_and_learns_of_changes(bench: HostBench) -> None:
    lane = bench.network()
    bench.run(lane)
    bench.following.start()
    assert bench.following.settle()
    (endpoint,) = bench.process.endpoints.values()
    assert (endpoint.addresses, endpoint.names) == (("10.32.0.1",), ("web",))
    assert endpoint.container == box().id
    assert list(bench.process.networks) == [lane]
    other = bench.network("other", "10.33.0.0/24")
    bench.run(other, "db")
    bench.net.rename(box().id, "shop", {lane: ("shop",)})
    assert bench.following.settle()
    assert sorted(e.names for e in bench.process.endpoints.values()) == [("db",), ("shop",)]
    bench.net.close(box("db").id)
    bench.net.remove(other)
    assert bench.following.settle()
    assert list(bench.process.networks) == [lane]
    assert len(bench.process.of(verbs.Networks)) == 1, "then only differences are sent"


def test_changes_are_noticed_without_a_call(bench: HostBench) -> None:
    lane = bench.network()
    bench.following.start()
    bench.run(lane)
    eventually(lambda: bench.process.endpoints)
    bench.net.disconnect(box().id, lane)
    eventually(lambda: not bench.process.endpoints)
    eventually(lambda: not bench.process.held)


def test_the_host_is_an_endpoint_while_it_is_exposed(bench: HostBench) -> None:
    lane = bench.network(expose="true")
    bench.following.start()
    assert bench.following.settle()
    (endpoint,) = bench.process.endpoints.values()
    assert (endpoint.id, endpoint.addresses) == (f"host:{lane}", ("10.32.0.1",))
    bench.net.reconfigure(lane, {"expose": "false"})
    assert bench.following.settle()
    assert bench.process.endpoints == {}


def test_a_process_that_dies_is_started_at_once_and_sent_everything(bench: HostBench) -> None:
    bench.run(bench.network())
    bench.following.start()
    assert bench.following.settle()
    bench.process.endpoints = {}
    bench.process.die()
    eventually(lambda: bench.process.endpoints)
    assert bench.process.starts == 1
    assert bench.following.settle()
    assert bench.following.problems == {}


@pytest.fixture
def asked(bench: HostBench, monkeypatch: pytest.MonkeyPatch) -> HostBench:
    """Each comparison asks the process for something, as in the engine."""
    monkeypatch.setattr(following, "AGAIN", 0.01)
    bench.following.on_sync.append(WarningLog().on_sync)
    return bench


def test_a_process_that_hangs_is_killed_once_and_sent_everything(
    asked: HostBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = asked
    bench.run(bench.network())
    bench.following.start()
    assert bench.following.settle()
    bench.process.endpoints = {}
    bench.process.silent = 99
    assert bench.following.settle()
    assert (bench.process.kills, bench.process.starts) == (1, 1)
    assert bench.process.endpoints
    assert bench.following.problems == {}
    assert sum("4711 hung" in line for line in caplog.messages) == 1


def test_a_process_that_is_late_once_is_left_alone(asked: HostBench) -> None:
    bench = asked
    bench.following.start()
    for _ in range(3):
        bench.process.silent = 1
        assert bench.following.settle()
        assert bench.process.silent == 0
    assert (bench.process.kills, bench.process.starts) == (0, 0)


def test_a_process_that_was_stopped_by_a_user_is_not_killed_or_started(asked: HostBench) -> None:
    bench = asked
    bench.following.start()
    assert bench.following.settle()
    bench.process.launched = False
    bench.process.silent = 3
    bench.following.notify()
    eventually(lambda: bench.process.silent == 2)
    bench.following.stop()
    assert (bench.process.kills, bench.process.starts) == (0, 0)


def test_why_a_process_cannot_be_started_is_known_until_it_is(bench: HostBench) -> None:
    bench.process.running = False
    bench.process.fails = "its database is damaged"
    bench.following.start()
    eventually(lambda: bench.following.unable == bench.process.fails)
    eventually(lambda: bench.following.problems == {"the process": bench.process.fails})
    bench.process.fails = ""
    assert bench.following.settle()
    assert (bench.following.unable, bench.following.problems) == ("", {})


@pytest.mark.slow
def test_a_comparison_that_fails_is_not_repeated_without_a_pause(bench: HostBench) -> None:
    calls: list[float] = []

    def fails(channel: object, fresh: bool) -> dict[str, str]:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise NetkitError("this verb is not known")
        return {}

    bench.following.on_sync.append(fails)
    bench.following.start()
    assert bench.following.settle()
    assert calls[2] - calls[0] > AGAIN


def test_there_is_no_thread_before_and_after(bench: HostBench) -> None:
    bench.network()
    bench.following.notify()
    assert threads() == []
    bench.following.start()
    assert bench.following.settle()
    bench.following.stop()
    assert threads() == []
    assert bench.process.channels == []
    bench.following.notify()
    bench.following.start()
    assert bench.following.settle()


def test_what_is_refused_is_a_problem_until_it_is_taken(bench: HostBench) -> None:
    lane = bench.network()
    bench.run(lane)
    (endpoint,) = bench.net.endpoints()
    bench.process.refuses = {endpoint.id: "10.32.0.1 is in use at h2"}
    bench.following.start()
    assert bench.following.settle()
    assert bench.following.problems == {"containers": "10.32.0.1 is in use at h2"}
    bench.process.refuses = {}
    assert bench.following.settle()
    assert bench.following.problems == {}
    assert list(bench.process.endpoints) == [endpoint.id]


def test_what_the_process_would_not_read_keeps_nothing_else_back(bench: HostBench) -> None:
    long = "n" * 254
    bench.network(long, "10.33.0.0/24")
    lane = bench.network()
    bench.run(lane)
    bench.following.start()
    assert bench.following.settle()
    assert list(bench.process.networks) == [lane]
    assert len(bench.process.endpoints) == 1
    ((what, why),) = bench.following.problems.items()
    assert what == f"network {long[:64]}"
    assert "not reported" in why


def test_events_are_handed_on_and_one_that_fails_does_no_harm(bench: HostBench) -> None:
    seen: list[object] = []

    def fails(event: object) -> None:
        raise RuntimeError("a bug")

    bench.following.on_event += [fails, seen.append]
    bench.following.start()
    assert bench.following.settle()
    bench.process.tell({"event": "path"})
    eventually(lambda: seen == [{"event": "path"}])
    assert bench.following.settle()


def test_many_differences_are_one_call() -> None:
    def of(count: int) -> Desired:
        networks = {str(n): network(n) for n in range(count)}
        return Desired(networks)

    assert differences(of(2), of(2)) == []
    assert differences(of(2), of(3)) == [verbs.PutNetwork(network=network(2))]
    assert differences(of(2), of(1)) == [verbs.DropNetwork(id="1")]
    assert len(differences(of(0), of(FEW + 1))) == 2


def network(number: int) -> verbs.Network:
    return verbs.Network(id=str(number), name="n", vni=number + 1, bridge="b", tap="t")
