"""Impaired links do to real packets what was asked for, and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from netkit.kernel import netns
from netkit.lab import building, commands, impairing, links
from netkit.lab.impairment_request import ImpairmentRequest
from netkit.lab.journal import only_one
from netkit.lab.model import UNDERLAY
from netkit.lab.relaying import Relay
from netkit.lab.running import RunningLab
from tests.labs.conftest import netkit, root_network, traces
from tests.labs.udp import Arrived, send

pytestmark = pytest.mark.lab("labs/impaired-link")
HEADERS = 14 + 20 + 8  # Ethernet, IP, UDP
LINK = "a@eth1"
BUSY = 30.0  # seconds; while a machine is busy its processes are late, the relay among them


def impair(lab: RunningLab, *words: str) -> list[dict[str, object]]:
    done = netkit("lab", "impair", lab.name, *words, "--format", "json")
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


@pytest.fixture
def clean(lab: RunningLab) -> Iterator[RunningLab]:
    yield lab
    impair(lab, LINK, "--clear")


def stream(lab: RunningLab, count: int, gap: float = 0.0, size: int = 60, net: int = 1) -> Arrived:
    return send(lab.a.netns, lab.b.netns, f"10.0.{net}.2", count, gap, size)


def test_a_segment_of_lab_yml_delays_what_is_sent_into_it(lab: RunningLab) -> None:
    there = stream(lab, 200, 0.002, net=0)
    back = send(lab.b.netns, lab.a.netns, "10.0.0.1", 200, 0.002)
    for seen in (there, back):
        assert seen.median >= 0.02
        assert seen.numbers == list(range(200))
    # Within 1 ms plus 5 %.
    wait_until(lambda: stream(lab, 200, 0.002, net=0).median <= 0.02 + 0.001 + 0.001, BUSY)


@pytest.mark.slow
def test_a_rate_is_kept_within_five_percent(lab: RunningLab) -> None:

    def kept() -> bool:
        seen = stream(lab, 900, 0.001, size=1400)  # 11.5 Mbit/s into 10
        return seen.bits(HEADERS) == pytest.approx(10e6, rel=0.05)

    wait_until(kept, BUSY)


@pytest.mark.slow
def test_loss_is_within_three_sigma_of_ten_thousand(clean: RunningLab) -> None:
    impair(clean, LINK, "--loss", "3%", "--seed", "5")
    seen = stream(clean, 10_000, 0.0002)
    sigma = (10_000 * 0.03 * 0.97) ** 0.5
    assert abs(10_000 - len(seen.packets) - 300) < 3 * sigma
    assert seen.numbers == sorted(seen.numbers)


def test_jitter_is_within_its_bounds(clean: RunningLab) -> None:
    impair(clean, LINK, "--delay", "10ms", "--jitter", "4ms", "--from", "a")

    def within() -> bool:
        delays = stream(clean, 300, 0.001).delays
        assert delays[0] >= 0.006
        return delays[0] < 0.0075 and 0.0125 < delays[-10] <= 0.014 + 0.0015

    wait_until(within, BUSY)


def test_one_way_leaves_the_other_alone(clean: RunningLab) -> None:
    impair(clean, LINK, "--delay", "10ms", "--from", "a")
    back = send(clean.b.netns, clean.a.netns, "10.0.1.1", 100, 0.001)
    assert stream(clean, 100, 0.001).median >= 0.01
    assert back.median < 0.01


def test_packets_are_doubled_overtake_and_are_damaged(clean: RunningLab) -> None:
    impair(clean, LINK, "--duplicate", "20%", "--seed", "1")
    seen = stream(clean, 500, 0.0005)
    twice = len(seen.numbers) - len(set(seen.numbers))
    assert len(set(seen.numbers)) == 500
    assert 70 <= twice <= 130
    impair(clean, LINK, "--clear", "--delay", "10ms", "--reorder", "10%")
    seen = stream(clean, 300, 0.001)
    early = [delay for delay in seen.delays if delay < 0.005]
    assert 10 <= len(early) <= 60
    assert seen.numbers != sorted(seen.numbers)
    impair(clean, LINK, "--clear", "--corrupt", "100%", "--from", "a")
    seen = stream(clean, 100, 0.001)  # checksums of IP and UDP are wrong
    assert len(seen.packets) < 20


def test_a_link_that_is_down_has_no_carrier_and_comes_back(clean: RunningLab) -> None:
    (found,) = impair(clean, LINK, "--down")
    assert found["by"] == "link down"
    shown = netkit("lab", "exec", clean.name, "a", "cat", "/sys/class/net/eth1/carrier")
    assert shown.stdout.strip() == "0"
    impair(clean, LINK, "--clear")
    assert len(stream(clean, 20, 0.001).packets) == 20


def test_without_options_it_is_shown_what_is_wanted_what_does_it_and_what_it_did(
    clean: RunningLab,
) -> None:
    impair(clean, LINK, "--delay", "5ms")
    stream(clean, 50, 0.001)
    (found,) = impair(clean, LINK)
    assert (found["by"], found["drift"]) == ("relay", "")
    assert found["out"] == {"delay": "5ms"}
    measured = found["measured"]["out"]  # type: ignore[index]
    assert measured["frames"] >= 50
    assert 0 < measured["late_mean"] <= measured["late_max"]


def relay(lab: RunningLab, host: str, interface: str) -> Relay:
    return Relay(lab.places, host, interface)


def wait_until(true: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_that_is_killed_is_started_again(lab: RunningLab) -> None:
    one = relay(lab, "a", "eth0")
    before = one.report()
    assert before is not None
    os.kill(int(before["pid"]), signal.SIGKILL)  # type: ignore[call-overload]
    wait_until(lambda: (now := one.report()) is not None and now["pid"] != before["pid"])
    assert stream(lab, 50, 0.002, net=0).median >= 0.02


def test_without_its_relay_a_link_passes_nothing_and_up_repairs_it(lab: RunningLab) -> None:
    one = relay(lab, "a", "eth0")
    while pids := one.pids():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    assert stream(lab, 5, 0.001, net=0).packets == []
    done = netkit("lab", "impair", lab.name, "a@eth0", check=False)
    assert done.returncode == 1
    assert "a@eth0: its relay does not run: nothing passes: netkit lab up" in done.stderr
    lab.up()
    assert stream(lab, 20, 0.001, net=0).median >= 0.02


def test_another_tool_that_takes_the_relay_out_is_seen_and_repaired(lab: RunningLab) -> None:
    commands.run(lab.places, UNDERLAY, "ip link set a-eth0 master line")
    done = netkit("lab", "impair", lab.name, "a@eth0", check=False)
    assert "master line, not a-eth0~b" in done.stderr
    lab.up()
    assert impair(lab, "a@eth0")[0]["drift"] == ""


def test_what_is_asked_for_survives_up_and_a_host_that_is_made_anew(clean: RunningLab) -> None:
    impair(clean, LINK, "--delay", "10ms", "--from", "a")
    building.down(clean.places, "a")
    # The end of a cable goes with its namespace, which the kernel removes in its own time.
    wait_until(lambda: "a-eth" not in commands.run(clean.places, UNDERLAY, "ip -br link"))
    clean.up()
    assert stream(clean, 50, 0.001).median >= 0.01


def test_a_lab_that_is_taken_down_leaves_nothing_of_its_relays() -> None:
    before = root_network()
    one = RunningLab("labs/impaired-link", f"gone-{os.getpid()}")
    one.up()
    try:
        end = links.chosen(one.lab, LINK)
        request = ImpairmentRequest(values={"loss": "1%"})
        with only_one(one.places):
            now = impairing.wanted(one.lab, one.places)
            impairing.change(one.places, links.changed_by(one.lab, now, end, request))
            impairing.settle(one.lab, one.places)
        relays = [relay(one, "a", "eth0"), relay(one, "a", "eth1"), relay(one, "b", "eth1")]
        pids = [pid for each in relays for pid in each.pids()]
        assert len(pids) == 6
        os.kill(pids[0], signal.SIGKILL)
    finally:
        one.down()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))  # once reaped
    assert traces(one.name) == []
    assert not netns.exists(one.places.netns(UNDERLAY))
    assert root_network() == before
