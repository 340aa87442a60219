"""netkitd killed at any call on the kernel, the database, ports and names, while a plugin waits.

What was acknowledged is there for the next netkitd, with its addresses, ports and names; what was
not is there as a whole or not at all, and goes with the DEL that the runtime calls then.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.unit.netkit.frontends.cni.cni_bench import IDS, CniBench, conf, ports
from tests.unit.netkit.network.fault_bench import LOWEST, MOST
from tests.unit.points import Killed

pytestmark = pytest.mark.slow
ONE = conf(**ports((LOWEST, 80)))
TWO = conf("two", subnet="10.61.0.0/24")
Act = Callable[[CniBench], object]
PAIRS = [("1", "back", "eth0"), ("1", "two", "eth1"), ("1", "back", "eth2")]


def both(b: CniBench) -> None:
    b.add(ONE)
    b.add(TWO, 1, "eth1")


def twice(b: CniBench) -> None:
    b.add(ONE)
    b.add(conf(), 1, "eth2")


def collect(b: CniBench) -> None:
    b.call("GC", conf(**{"cni.dev/valid-attachments": []}))


# What was before, and what is done when netkitd is killed.
CASES: dict[str, tuple[Act, Act]] = {
    "first ADD": (lambda b: None, lambda b: b.add(ONE)),
    "second ADD": (lambda b: b.add(ONE), lambda b: b.add(TWO, 1, "eth1")),
    "ADD again on a network": (lambda b: b.add(ONE), lambda b: b.add(conf(), 1, "eth2")),
    "DEL of one": (both, lambda b: b.call("DEL", ONE)),
    "DEL of the last": (lambda b: b.add(ONE), lambda b: b.call("DEL", ONE)),
    "DEL of one of a network's": (twice, lambda b: b.call("DEL", ONE)),
    "GC": (twice, collect),
}


def wrong(b: CniBench, before: set[object], acknowledged: bool, removes: bool) -> list[str]:
    """What does not agree after the restart."""
    found = b.untrue()
    there = set(b.attachments())
    endpoints = {("1", b.net._parts.registry.get(e.network).name, e.ifname)
                 for e in b.net.endpoints()}  # fmt: skip
    if there != endpoints:
        found.append(f"attachments {there} are not endpoints {endpoints}")
    if not removes and not before <= there:
        found.append(f"{before - there} is lost")
    if not removes and acknowledged and there == before:
        found.append("what was acknowledged is lost")
    if removes and not there <= before:
        found.append(f"{there - before} came")
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_kill_at_any_point(memory: Path, case: str) -> None:
    prepare, act = CASES[case]
    removes = not case.endswith("ADD") and not case.startswith("ADD")
    for at in range(MOST):
        path = memory / str(at)
        path.mkdir()
        b = CniBench(path / "db")
        b.netns("c1")
        prepare(b)
        before = set(b.attachments())
        b.points.begin(cut=at)
        with suppress(Killed):
            act(b)
        killed, where = b.points.killed, b.points.met[-1]
        b.restart()
        assert wrong(b, before, not killed, removes) == [], where
        for _, name, ifname in PAIRS:  # which the runtime calls after a failure
            b.call("DEL", conf(name), 1, ifname)
        assert (b.attachments(), b.net.of_engine("cni"), b.held()) == ([], [], 0), where
        b.end("c1")
        assert b.unlike_new({}) == [], where
        assert b.net.sandbox(IDS[0]) is None
        b.stop()
        if not killed:
            break
    else:
        pytest.fail(f"more than {MOST} points")
    assert at > 5
