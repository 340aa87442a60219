"""Addresses of the overlay's process and rows of this host: they agree in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from netkit.errors import Busy, Conflict, InUse
from netkit.overlay import verbs
from runtime.network.weave.desired import desired
from tests.unit.runtime.network.weave.host_bench import HostBench, box


@pytest.fixture
def bench(tmp_path: Path) -> HostBench:
    return HostBench(tmp_path)


def test_a_container_gets_an_address_that_the_process_allocated(bench: HostBench) -> None:
    lane = bench.network()
    bench.process.elsewhere = {"10.32.0.1"}
    assert bench.run(lane) == "10.32.0.2/24"
    assert bench.held(lane, "web") == ["10.32.0.2"]
    assert bench.agree() == {}
    assert bench.held(lane, "web") == ["10.32.0.2"]


def test_an_address_of_another_host_is_refused(bench: HostBench) -> None:
    lane = bench.network()
    bench.process.elsewhere = {"10.32.0.9"}
    with pytest.raises(InUse, match=r"10\.32\.0\.9 is in use at h2"):
        bench.run(lane, addresses=["10.32.0.9/24"])


def test_what_has_no_row_any_more_is_released(bench: HostBench) -> None:
    lane = bench.network()
    bench.run(lane)
    bench.net.close(box().id)
    bench.agree(fresh=False)
    assert bench.process.held == {}


def test_an_address_whose_holder_was_removed_a_moment_ago_is_waited_for(bench: HostBench) -> None:
    lane = bench.network()
    bench.run(lane, addresses=["10.32.0.9/24"])
    with pytest.raises(InUse, match=r"10\.32\.0\.9"):
        bench.run(lane, "other", addresses=["10.32.0.9/24"])
    bench.net.close(box().id)
    assert bench.process.held, "it is not released yet"
    bench.addresses.connect(
        bench.net.overlay_networks, lambda: bench.agree(fresh=False), lambda: ""
    )  # fmt: skip
    assert bench.run(lane, "other", addresses=["10.32.0.9/24"]) == "10.32.0.9/24"
    assert bench.held(lane, "other") == ["10.32.0.9"]


def test_an_address_that_is_released_straight_after_it_was_refused_is_had(
    bench: HostBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network()
    bench.run(lane, addresses=["10.32.0.9/24"])
    bench.net.close(box().id)
    ask, refused = bench.addresses._ask, []

    def released_meanwhile(network: str, verb: verbs.Known) -> object:
        try:
            return ask(network, verb)
        except Conflict as error:
            refused.append(str(error))
            bench.agree(fresh=False)
            raise

    monkeypatch.setattr(bench.addresses, "_ask", released_meanwhile)
    assert bench.run(lane, "other", addresses=["10.32.0.9/24"]) == "10.32.0.9/24"
    assert len(refused) == 1
    assert bench.held(lane, "other") == ["10.32.0.9"]


def test_what_others_asked_of_the_process_stays(bench: HostBench) -> None:
    bench.process.held = {"10.32.0.77": "somebody", "10.32.0.78": "a:b"}
    bench.agree()
    assert len(bench.process.held) == 2


def test_what_was_allocated_without_the_overlay_is_claimed(bench: HostBench) -> None:
    lane = bench.network()
    bench.process.launched = False
    assert bench.run(lane) == "10.32.0.1/24"
    assert bench.run(lane, "far", addresses=["192.168.1.2/24"]) == "192.168.1.2/24"
    bench.process.launched = True
    bench.process.networks = _networks(bench)
    assert bench.agree() == {}
    assert bench.held(lane, "web") == ["10.32.0.1"]
    before = len(bench.process.of(verbs.Claim))
    bench.addresses.notify_changed()
    bench.agree(fresh=False)
    assert len(bench.process.of(verbs.Claim)) == before, "what nobody gives out is asked for once"


def test_a_refused_claim_is_reported_and_tried_again(bench: HostBench) -> None:
    lane = bench.network()
    bench.process.launched = False
    bench.run(lane)
    bench.process.launched = True
    bench.process.elsewhere = {"10.32.0.1"}
    bench.process.networks = _networks(bench)
    assert bench.agree() == {"container web with 10.32.0.1": "10.32.0.1 is in use at h2"}
    bench.process.elsewhere = set()
    assert bench.agree(fresh=False) == {}
    assert bench.held(lane, "web") == ["10.32.0.1"]


def test_the_host_s_own_address_is_claimed_while_it_is_exposed(bench: HostBench) -> None:
    lane = bench.network()
    bench.process.networks = _networks(bench)
    bench.agree()
    assert bench.process.held == {}
    bench.net.reconfigure(lane, {"expose": "true"}, gateway="10.32.0.5")
    bench.agree()
    assert bench.process.held == {"10.32.0.5": f"weave:expose:{lane[:12]}"}
    bench.net.reconfigure(lane, {"expose": "false"})
    bench.agree()
    assert bench.process.held == {}


def test_an_address_whose_row_is_being_written_is_not_released(bench: HostBench) -> None:
    lane = bench.network()
    with bench.addresses.holding(lane, box().id):
        bench.process.held["10.32.0.3"] = f"{box().id}:{lane[:12]}"
        bench.agree()
        assert bench.held(lane, "web") == ["10.32.0.3"]
    # None was written: it is looked at again, though no row changed.
    bench.agree(fresh=False)
    assert bench.held(lane, "web") == []


def test_what_nobody_notified_of_is_compared_from_time_to_time(
    bench: HostBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = bench.network()
    bench.agree()
    bench.process.held["10.32.0.3"] = f"{box().id}:{lane[:12]}"  # who asked was gone by then
    bench.agree(fresh=False)
    assert bench.held(lane, "web") == ["10.32.0.3"]
    monkeypatch.setattr(bench.addresses, "_next", 0.0)
    bench.agree(fresh=False)
    assert bench.held(lane, "web") == []


def test_a_row_that_is_written_in_between_keeps_its_address(bench: HostBench) -> None:
    """A container ends and starts again while the thread that follows compares."""
    lane = bench.network()
    bench.run(lane)
    bench.net.close(box().id)
    wanted, looks = bench.addresses._wanted, iter(range(9))

    def slow() -> object:
        found = wanted()
        if next(looks) == 0:
            bench.run(lane)
        return found

    bench.addresses._wanted = slow  # type: ignore[method-assign, assignment]
    bench.agree()
    assert bench.held(lane, "web") == ["10.32.0.1"]


def test_a_start_waits_for_a_process_that_is_about_to_run(bench: HostBench) -> None:
    lane = bench.network()
    bench.process.running = False
    bench.following.start()
    assert bench.run(lane) == "10.32.0.1/24"
    bench.following.stop()


def test_a_start_fails_at_once_where_the_process_cannot_be_started(bench: HostBench) -> None:
    lane = bench.network()
    bench.process.running = False
    bench.following.unable = "its database is damaged"
    with pytest.raises(Busy, match="its database is damaged"):
        bench.run(lane)


def test_a_network_that_was_just_made_is_known_to_the_process(bench: HostBench) -> None:
    lane = bench.network()
    assert bench.process.networks == {}
    bench.run(lane)
    assert list(bench.process.networks) == [lane]


def _networks(bench: HostBench) -> dict[str, verbs.Network]:
    return desired(bench.net.overlay_networks).networks
