"""The great world on each back end, after restarts and repairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netkit.driver import Firewall
from netkit.kernel.iptables.tools import Variant
from netkit.testing.waiting import eventually
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from tests.netns.conftest import Lab
from tests.reach.great import the_world
from tests.reach.probe import PATIENCE
from tests.reach.town import Town, town


@dataclass(frozen=True)
class Backend:
    variant: Variant  # of iptables, which Docker's chains or the administrator's are in
    firewall: Firewall
    native: bool = False


@pytest.fixture(params=["iptables-nft", "iptables-legacy", "nftables"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "nftables":
        return Backend("nft", Nftables(), native=True)
    return Backend("legacy" if request.param == "iptables-legacy" else "nft", Iptables())


@pytest.fixture
def great(lab: Lab, tmp_path: Path, backend: Backend) -> Iterator[Town]:
    """The great world, with frames filtered only on bridges that request it."""
    w, kernel = the_world(filtered=False), lab.host(backend.variant)
    with town(lab, w, backend.firewall, kernel, tmp_path, filtered=False) as t:
        yield t


def flush(lab: Lab, backend: Backend) -> None:
    """Flush the rules, as another tool would."""
    if backend.native:
        lab.run("nft", "flush", "ruleset")
        return
    for table in ("filter", "nat", "raw"):
        for way in ("-F", "-X"):
            command = (f"iptables-{backend.variant}", "-t", table, way)
            # A guard that repairs meanwhile may have taken what iptables had just listed.
            eventually(lambda c=command: lab.tried(*c).returncode == 0, what=" ".join(command))


def wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
