"""The overlay's process, whole, on hosts in namespaces: containers reach each other by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.overlay import verbs
from tests.netns.weave_process import Peers, eventually, peers

pytestmark = pytest.mark.root


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Peers]:
    with peers(2, tmp_path) as made:
        yield made


def test_containers_ping_by_the_kernel_and_after_a_crash(two: Peers) -> None:
    a, b = two
    a.launch()
    b.launch(a)
    for peer in two:
        peer.join("lane")
    here, there = a.run("lane", "c1"), b.run("lane", "c2")
    eventually(lambda: a.host.pings("c1", there))
    eventually(lambda: a.ways().get("h2") == "fastdp" == b.ways().get("h1"))
    assert b.host.pings("c2", here)
    assert b.call(verbs.DnsLookup(name="c1.lane.weave.local")) == [here]
