"""The small pure parts of the container engine."""

import asyncio
from random import Random

import pytest

from netkit import timestamps
from netkit.errors import InvalidSpec
from runtime.apitypes import Health
from runtime.container import names, restart_policy, signals
from runtime.container.config import HostConfig, LogConfig, RestartPolicy
from runtime.container.log_options import check_log
from runtime.container.model import HealthLog, HealthState
from runtime.events import EventBus, matches
from runtime.lifecycle.health import command, record_result
from runtime.undo import Undo


@pytest.mark.parametrize("name", ["", "a", "-ab", "a b", "ä1", "a/b"])
def test_bad_container_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match="Invalid container name"):
        names.validate(name)


@pytest.mark.slow
def test_invented_names_obey_the_rule_and_are_free() -> None:
    taken: set[str] = set()
    for _ in range(500):
        name = names.generate(Random(1), lambda n: n not in taken)
        assert names.validate(name) == name
        taken.add(name)
    assert len(taken) == 500


@pytest.mark.parametrize(
    ("policy", "code", "stopped", "count", "again"),
    [
        ("no", 1, False, 0, False),
        ("always", 0, False, 9, True),
        ("always", 0, True, 0, False),
        ("unless-stopped", 1, False, 0, True),
        ("on-failure", 0, False, 0, False),
        ("on-failure", 1, False, 1, True),
        ("on-failure", 1, False, 2, False),
    ],
)
def test_restart_policies(policy: str, code: int, stopped: bool, count: int, again: bool) -> None:
    restart = RestartPolicy(name=policy, maximum_retry_count=2 if policy == "on-failure" else 0)
    assert (
        restart_policy.should_restart(restart, exit_code=code, stopped=stopped, count=count)
        is again
    )


def test_delays_double_to_a_minute_and_start_anew_after_a_steady_run() -> None:
    delays, d = [], 0.0
    for _ in range(12):
        d = restart_policy.next_delay(d, 0.5)
        delays.append(d)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60
    assert restart_policy.next_delay(60, 11) == 0.1


@pytest.mark.parametrize(
    ("text", "value"), [("KILL", 9), ("sigterm", 15), ("2", 2), ("RTMIN+3", 37)]
)
def test_signals(text: str, value: int) -> None:
    assert signals.parse_signal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "NOPE", "0", "99", "RTMAX+1", "SIG42", "SIG9", "RTMIN+16", "RTMAX-15", "RTMIN-0",
        "9" * 5000, "²",
    ],
)  # fmt: skip
def test_bad_signals_are_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="invalid signal"):
        signals.parse_signal(text)


@pytest.mark.parametrize("option", ["max-size", "max-file"])
@pytest.mark.parametrize("text", ["0", "-1x", "²", "٣", "9" * 5000])
def test_limits_of_logs_that_are_no_numbers_are_refused(option: str, text: str) -> None:
    host = HostConfig(log_config=LogConfig(type="json-file", config={option: text}))
    with pytest.raises(InvalidSpec, match=option):
        check_log(host)


def test_times_round_trip() -> None:
    ns = 1_700_000_000_123_456_789
    assert timestamps.rfc3339(ns) == "2023-11-14T22:13:20.123456789Z"
    assert timestamps.epoch_ns(timestamps.rfc3339(ns)) == ns
    assert timestamps.epoch_ns("0001-01-01T00:00:00Z") == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("100", 100.0), ("100.5", 100.5), ("1h2m3s", 1000 - 3723.0), ("2023-11-14T22:13:20Z", 1.7e9)],
)
def test_moments(text: str, value: float) -> None:
    assert timestamps.parse_time(text, now=1000) == value


def test_a_bad_moment_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="soon"):
        timestamps.parse_time("soon")


def _result(code: int) -> HealthLog:
    return HealthLog(start="", end="", exit_code=code, output="")


def test_health_turns_bad_after_the_retries_and_good_at_once() -> None:
    state = HealthState()
    assert [record_result(state, _result(1), 3, False) for _ in range(3)] == ["", "", "unhealthy"]
    assert record_result(state, _result(0), 3, False) == "healthy"
    assert state.failing_streak == 0
    assert len(state.log) == 4


def test_failures_in_the_start_period_do_not_count() -> None:
    state = HealthState()
    assert [record_result(state, _result(1), 1, True) for _ in range(5)] == [""] * 5
    assert state.status == "starting"
    assert record_result(state, _result(1), 1, False) == "unhealthy"


def test_health_commands() -> None:
    assert command(Health(test=["CMD", "a", "b"]), None) == ["a", "b"]
    assert command(Health(test=["CMD-SHELL", "a b"]), None) == ["/bin/sh", "-c", "a b"]


def test_undo_runs_backwards_and_keeps_the_first_error() -> None:
    done: list[int] = []

    def broken() -> None:
        raise OSError("busy")

    def use_case() -> None:
        with Undo() as undo:
            undo.push(done.append, 1)
            undo.push(broken)
            undo.push(done.append, 3)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first") as e:
        use_case()
    assert done == [3, 1]
    assert any("busy" in note for note in e.value.__notes__)


def test_events_are_remembered_and_streamed_in_order() -> None:
    async def scenario() -> list[str]:
        bus = EventBus(asyncio.get_running_loop())
        bus.emit("container", "create", "c1", {"name": "web", "image": "x"})
        got: list[str] = []

        async def listen() -> None:
            async for event in bus.subscribe(1.0, 0.0, {"type": ["container"]}):
                got.append(event["Action"])
                if event["Action"] == "die":
                    return

        task = asyncio.create_task(listen())
        await asyncio.sleep(0)
        bus.emit("network", "connect", "n1", {"name": "bridge"})
        bus.emit("container", "start", "c1", {"name": "web", "image": "x"})
        bus.emit("container", "die", "c1", {"name": "web", "image": "x"})
        await asyncio.wait_for(task, 5)
        return got

    assert asyncio.run(scenario()) == ["create", "start", "die"]


@pytest.mark.parametrize(
    ("filters", "ok"),
    [
        ({"event": ["exec_start"]}, True),
        ({"container": ["web"]}, True),
        ({"container": ["c1f"]}, False),
        ({"image": ["busybox"]}, True),
        ({"label": ["tier=web"]}, True),
        ({"label": ["tier=db"]}, False),
        ({"type": ["network"]}, False),
        ({"event": ["die"], "container": ["web"]}, False),
    ],
)
def test_event_filters(filters: dict[str, list[str]], ok: bool) -> None:
    event = {
        "Type": "container",
        "Action": "exec_start: ls",
        "scope": "local",
        "Actor": {
            "ID": "c1",
            "Attributes": {"name": "web", "image": "busybox:latest", "tier": "web"},
        },
    }
    assert matches(event, filters) is ok


def test_a_filter_for_a_container_gives_no_events_of_networks() -> None:
    actor = {"ID": "n1", "Attributes": {"name": "bridge", "container": "c1f0"}}
    event = {"Type": "network", "Action": "connect", "scope": "local", "Actor": actor}
    assert not matches(event, {"container": ["c1f0"]})
    assert matches(event, {"network": ["bridge"]})


@pytest.mark.parametrize(
    ("since", "until", "seen"),
    [(0.0, 4e9, ["old"]), (None, 1e9, []), (None, 3e9, ["old"]), (2.5e9, 3e9, [])],
)
def test_events_of_the_past_come_with_since_and_with_until_alone(
    since: float | None, until: float, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> list[str]:
        bus = EventBus(asyncio.get_running_loop())
        with monkeypatch.context() as patch:
            patch.setattr("runtime.events.time.time_ns", lambda: 2 * 10**18)
            bus.emit("container", "old", "c1", {})
        monkeypatch.setattr("runtime.events.time.time", lambda: 4e9)
        return [e["Action"] async for e in bus.subscribe(since, until, {})]

    assert asyncio.run(scenario()) == seen
