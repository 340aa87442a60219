"""Ways to one peer, and how long datagrams may be, by answers that are made up."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from plugins.weave.identity import PeerId
from plugins.weave.path import FAST, Need, Path, Probe
from plugins.weave.path_mtu import CONFIRM, RAISE, PathMtu
from plugins.weave.planes import Way
from plugins.weave.step import Address, Relayed
from plugins.weave.wire import PATH_FLOOR

PEER = PeerId(bytes(16))
HERE = Address("192.0.2.7", 6783)
NEED = Need(b"net", 7, 1400, bytes(6))
HEADERS = 28


def search(path: PathMtu, carries: Callable[[float], int], now: float, until: float) -> float:
    """Answer probes for so long; when the search ended."""
    ended = 0.0
    while now < until:
        for size in path.due(now):
            if size + HEADERS <= carries(now):
                path.arrived(size, now + 0.01)
        if not path.searching and not ended:
            ended = now
        now = max(now + 0.001, min(path.deadline, now + 1))
    return ended


@pytest.mark.parametrize("mtu", [1280, 1281, 1350, 1400, 1499, 1500, 1501, 2304, 4352, 9000, 9500])
def test_the_size_is_found_in_seconds(mtu: int) -> None:
    path = PathMtu(HEADERS, 9000, 0.0)
    ended = search(path, lambda now: mtu, 0.0, 20.0)
    assert min(mtu, 9000) - HEADERS - 8 <= path.size <= min(mtu, 9000) - HEADERS
    assert 0 < ended <= 6


def test_a_narrower_path_is_noticed_and_a_wider_one_in_ten_minutes() -> None:
    path = PathMtu(HEADERS, 9000, 0.0)
    search(path, lambda now: 1500, 0.0, 20.0)
    assert path.size == 1472
    search(path, lambda now: 1400, 20.0, 20.0 + CONFIRM + 10)
    assert 1364 <= path.size <= 1372
    search(path, lambda now: 9000, 60.0, 60.0 + RAISE + 10)
    assert path.size == 8972


def test_while_nothing_comes_through_nothing_is_concluded() -> None:
    path = PathMtu(HEADERS, 9000, 0.0)
    search(path, lambda now: 1500, 0.0, 20.0)
    search(path, lambda now: 0, 20.0, 60.0)
    assert path.size == PATH_FLOOR
    search(path, lambda now: 1500, 60.0, 75.0)
    assert path.size == 1472


def test_what_this_host_does_not_send_is_not_tried_again() -> None:
    path = PathMtu(HEADERS, 9000, 0.0)
    sizes = path.due(0.0)
    assert max(sizes) == 8972
    path.too_large(8972, 1472, 0.0)
    assert search(path, lambda now: 9000, 0.0, 20.0) <= 2
    assert path.size == 1472
    path.too_large(1472, 0, 20.0)
    search(path, lambda now: 1400, 20.0, 30.0)
    assert 1364 <= path.size < 1472


def made(**options: bool) -> Path:
    path = Path(PEER, random.Random(1).randbytes, 1500)
    path.sealed = options.get("sealed", False)
    path.takes_vxlan = options.get("takes_vxlan", True)
    path.at(HERE, 0.0)
    path.wants(True, NEED, 0.0)
    return path


def run(path: Path, now: float, until: float, answers: Callable[[Probe], bool]) -> list[float]:
    """When the way changed."""
    changes, way = [], path.way
    while now < until:
        for probe in path.tick("", now):
            if answers(probe):
                path.probed(probe.number, now + 0.01)
        if path.way is not way:
            changes.append(now)
            way = path.way
        now = max(now + 0.001, min(path.deadline(""), now + 1))
    return changes


def everything(probe: Probe) -> bool:
    return True


def no_vxlan(probe: Probe) -> bool:
    return probe.need is None


def nothing_by_vxlan(probe: Probe) -> bool:
    assert not probe.number & FAST
    return True


def test_three_answers_up_three_losses_down_and_thirty_seconds_between() -> None:
    path = made()
    up = run(path, 0.0, 20.0, everything)
    assert [at < 1 for at in up] == [True]
    down = run(path, 20.0, 40.0, no_vxlan)
    assert path.way is Way.SLEEVE
    assert [at <= 20 + 5 + 3.1 for at in down] == [True]
    up = run(path, 40.0, 120.0, everything)
    assert [at >= down[0] + 30 for at in up] == [True]


def test_two_answers_or_two_losses_in_a_row_change_nothing() -> None:
    path = made()
    count = iter(range(10**6))
    run(path, 0.0, 120.0, lambda probe: probe.need is None or next(count) % 3 < 2)
    assert path.way is Way.SLEEVE
    path = made()
    run(path, 0.0, 20.0, everything)
    count = iter(range(10**6))
    assert run(path, 20.0, 300.0, lambda probe: probe.need is None or next(count) % 3 == 2) == []
    assert path.way is Way.FASTDP


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("encrypted, which the kernel's VXLAN is not", lambda path: setattr(path, "sealed", True)),
        ("the other side takes no VXLAN", lambda path: setattr(path, "takes_vxlan", False)),
        ("no network has containers on both hosts", lambda path: path.wants(False, None, 20.0)),
        ("no network with containers on both hosts may go in clear",
         lambda path: path.wants(True, None, 20.0)),
        (
            "no IPv4 address, which VXLAN needs here",
            lambda path: path.at(Address("2001:db8::7", 6783), 20.0),
        ),
    ],
)
def test_what_may_not_go_by_fastdp_is_off_it_at_once(
    why: str, change: Callable[[Path], None]
) -> None:
    path = made()
    run(path, 0.0, 20.0, everything)
    assert path.way is Way.FASTDP
    change(path)
    path.check("", 20.0)
    assert path.way is Way.SLEEVE
    assert path.reason("") == f"sleeve: {why}"
    assert run(path, 20.0, 120.0, nothing_by_vxlan) == []


def test_the_user_may_forbid_it() -> None:
    path = made()
    assert path.reason("--no-fastdp was given") == "sleeve: --no-fastdp was given"
    assert [probe for probe in path.tick("--no-fastdp was given", 0.0) if probe.need] == []


def test_thirty_seconds_are_kept_whatever_is_forbidden_meanwhile() -> None:
    path = made()
    run(path, 0.0, 20.0, everything)
    (down,) = run(path, 20.0, 32.0, no_vxlan)
    path.tick("forbidden", 32.0)
    (up,) = run(path, 32.1, 120.0, everything)
    assert up >= down + 30


def test_by_relay_nothing_is_probed() -> None:
    path = made()
    path.at(Relayed(PEER), 1.0)
    assert path.way is Way.RELAY
    assert path.tick("", 2.0) == []
    assert path.size < PATH_FLOOR


def test_answers_to_other_probes_do_not_count() -> None:
    path = made()
    path.tick("", 0.0)
    for number in range(1000):
        path.probed(FAST | number, 0.1)
        path.probed(number, 0.1)
    assert path.way is Way.SLEEVE
    assert path.size == PATH_FLOOR


def test_longer_packets_than_were_probed_begin_anew() -> None:
    path = made()
    run(path, 0.0, 20.0, everything)
    path.wants(True, Need(b"net", 7, 1300, bytes(6)), 20.0)
    assert path.way is Way.FASTDP
    path.wants(True, Need(b"net", 7, 1400, bytes(6)), 20.0)
    assert path.way is Way.SLEEVE
