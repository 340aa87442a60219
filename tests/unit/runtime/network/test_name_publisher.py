"""The resolver ends once no container needs it, also where the answer to a removal was lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from netkit import threads
from netkit.testing.waiting import eventually
from runtime.network import name_publisher
from runtime.network.name_publisher import DnsPublisher


class LosesAnswers:
    """A resolver that carries out a removal only after the next list of what it has."""

    def __init__(self) -> None:
        self.there = {"s"}
        self.removed: list[str] = []
        self.stopped = False

    def remove(self, sandbox: str) -> None:
        self.removed.append(sandbox)

    def known(self) -> frozenset[str]:
        found = frozenset(self.there)
        self.there -= set(self.removed)
        return found

    def close(self, stop: bool) -> None:
        self.stopped = stop


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(name_publisher, "AGAIN", 0.001)
    monkeypatch.setattr(name_publisher, "IDLE", 0.001)


def _publisher(resolver: Any) -> DnsPublisher:
    names = DnsPublisher(SimpleNamespace(dns=Path("/nosuch")))  # type: ignore[arg-type]
    names._resolver = resolver
    names._views = len(resolver.there)  # it is not idle, while nothing is published yet
    networks = SimpleNamespace(
        find=lambda ref: SimpleNamespace(builtin=False), endpoints=lambda: [], all=lambda: [],
        global_networks=SimpleNamespace(remote_endpoints=lambda: []),
    )  # fmt: skip
    names.connect(networks, SimpleNamespace(get=lambda id: None), None)  # type: ignore[arg-type]
    return names


def test_whoever_waits_for_names_does_not_wait_for_a_count_of_them() -> None:
    counted, returned = threading.Event(), threading.Event()

    class Slow(LosesAnswers):
        def known(self) -> frozenset[str]:
            assert returned.wait(60)
            counted.set()
            return frozenset()

    names = _publisher(Slow())
    try:
        former: Any = SimpleNamespace(network="n", sandbox="s", container="")
        names.publish([], [former])
        names.flush()
        assert not counted.is_set()
        returned.set()
        assert counted.wait(60)
    finally:
        returned.set()
        names.close()


def test_a_sandbox_that_seems_to_be_there_after_its_removal_is_removed_again() -> None:
    resolver: Any = LosesAnswers()
    names = _publisher(resolver)
    try:
        former: Any = SimpleNamespace(network="n", sandbox="s", container="")
        names.publish([], [former])
        eventually(lambda: resolver.stopped, 10, 0.005, what="the end of the resolver")
    finally:
        names.close()
    assert set(resolver.removed) == {"s"}


def test_there_is_one_resolver_though_two_threads_need_it_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a start, `restore` and containers' names.  A second one would keep the process alive."""
    made: list[object] = []
    begun = threading.Event()

    def make(*_: object) -> object:
        begun.set()
        time.sleep(0.02)
        made.append(object())
        return made[-1]

    monkeypatch.setattr(name_publisher, "Resolver", make)
    names = DnsPublisher(SimpleNamespace(dns=Path("/nosuch")))  # type: ignore[arg-type]
    other = threading.Thread(target=names._ensure_resolver)
    other.start()
    begun.wait()
    assert names._ensure_resolver() is names._ensure_resolver()
    other.join()
    assert len(made) == 1
