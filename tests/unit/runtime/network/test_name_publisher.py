"""The resolver ends once no container needs it, also where the answer to a removal was lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from netkit import threads
from netkit.spec import EndpointRecord, EndpointSpec, Sandbox
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
        find=lambda ref: SimpleNamespace(builtin=False),
        endpoints_around=lambda *_: [], all=lambda: [],
        global_networks=SimpleNamespace(remote_endpoints=lambda: []),
    )  # fmt: skip
    names.connect(networks, SimpleNamespace(get=lambda id: None), None)  # type: ignore[arg-type]
    return names


def test_callers_that_wait_for_names_do_not_wait_for_a_count_of_them() -> None:
    counted, returned = threading.Event(), threading.Event()

    class Slow(LosesAnswers):
        def known(self) -> frozenset[str]:
            assert returned.wait(60)
            counted.set()
            return frozenset()

    names = _publisher(Slow())
    try:
        former: Any = SimpleNamespace(network="n", sandbox="s", container="", engine="")
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
        former: Any = SimpleNamespace(network="n", sandbox="s", container="", engine="")
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


class CountsReads:
    """Endpoints of several networks, and the networks and sandboxes that were read."""

    def __init__(self, endpoints: list[EndpointRecord]) -> None:
        self.live = endpoints
        self.read: list[EndpointRecord] = []
        self.global_networks = SimpleNamespace(remote_endpoints=lambda: [])

    def all(self) -> list[Any]:
        specs = {id: SimpleNamespace(name=id, driver="bridge", internal=False)
                 for id in {e.network for e in self.live}}  # fmt: skip
        return [SimpleNamespace(id=id, spec=s, builtin=id == "bridge") for id, s in specs.items()]

    def endpoints_around(self, networks: Any, sandboxes: Any) -> list[EndpointRecord]:
        concerned = {e.sandbox for e in self.live if e.network in networks} | set(sandboxes)
        return self._reading(e for e in self.live if e.sandbox in concerned)

    def endpoints(self, *, network: str = "") -> list[EndpointRecord]:
        return self._reading(e for e in self.live if e.network == network or not network)

    def find(self, ref: str) -> Any:
        return SimpleNamespace(builtin=ref == "bridge")

    def _reading(self, found: Any) -> list[EndpointRecord]:
        self.read += (found := list(found))
        return found

    def traits(self, record: Any) -> Any:
        return SimpleNamespace(domain="")


def _endpoint(sandbox: str, network: str, number: int) -> EndpointRecord:
    spec = EndpointSpec(network=network, names=(sandbox,))
    return EndpointRecord(
        id=f"{sandbox}-{network}", network=network, sandbox=sandbox, owner_name=sandbox,
        spec=spec, address=f"10.0.{number}.2/24", ifname="eth0",
    )  # fmt: skip


def _updates(networks: Any, tmp_path: Path) -> tuple[DnsPublisher, dict[str, Any]]:
    """A publisher for containers of netkit's own, and the views that its resolver gets."""
    names = DnsPublisher(SimpleNamespace(namespace_file=lambda id: f"{tmp_path}/{id}"))  # type: ignore[arg-type]
    views: dict[str, Any] = {}
    resolver: Any = SimpleNamespace(
        set=lambda id, _, view: views.update({id: view}), known=views.keys,
        remove=lambda id: views.pop(id, None),
    )  # fmt: skip
    names._resolver, names._networks = resolver, networks
    names._store = SimpleNamespace(get=lambda id: id)  # type: ignore[assignment]
    names._files = SimpleNamespace(  # type: ignore[assignment]
        host_text=lambda: "", resolver=lambda *_: ("", ["192.0.2.1"])
    )
    return names, views


def test_a_change_of_one_network_reads_no_endpoints_of_others(tmp_path: Path) -> None:
    web = [_endpoint("web", "front", 1), _endpoint("web", "back", 2), _endpoint("web", "bridge", 3)]
    others = [_endpoint(f"c{n}", net, n) for n in range(9) for net in ("other", "bridge")]
    networks: Any = CountsReads([*web, _endpoint("db", "back", 4), *others])
    names, views = _updates(networks, tmp_path)
    names._update_resolver({"front"}, set())
    assert views.keys() == {"web"}
    assert views["web"].addresses("db") == ("10.0.4.2",)  # by the network that it is on, too
    assert {e.sandbox for e in networks.read} == {"web", "db"}
    assert {e.network for e in networks.read if e.sandbox != "web"} == {"back"}


def test_sandboxes_of_one_container_of_another_engine_have_one_view(tmp_path: Path) -> None:
    parts = [
        msgspec.structs.replace(_endpoint(f"part{n}", net, n), engine="docker", container="theirs")
        for n, net in enumerate(("front", "back"))
    ]
    names, views = _updates(CountsReads([*parts, _endpoint("db", "back", 4)]), tmp_path)
    assert names._update_resolver({"front"}, {"theirs", "gone"}) == {"gone"}
    assert views.keys() == {"theirs"}
    assert views["theirs"].addresses("db") == ("10.0.4.2",)


def test_a_container_that_becomes_known_meanwhile_has_one_view_by_its_own_id(
    tmp_path: Path,
) -> None:
    """dockerd says whose an endpoint is while others' names are sent: the port is one."""
    part = msgspec.structs.replace(_endpoint("part", "front", 1), engine="docker")
    networks: Any = CountsReads([part])
    known = Sandbox(id="part", name="web", ns="/n", engine="docker", foreign=True, handover="nkd1",
                    container="theirs")  # fmt: skip
    networks.sandbox = lambda id: known if id == "part" else None
    names, views = _updates(networks, tmp_path)
    names._store = SimpleNamespace(get=lambda id: None)  # type: ignore[assignment]
    names._files.host_servers = lambda: ()  # type: ignore[method-assign]
    names._update_resolver({"front"}, set())  # with endpoints as they were before
    assert views == {}
    networks.live = [msgspec.structs.replace(part, container="theirs")]
    networks.endpoints = lambda **_: networks.live
    names._update_resolver({"front"}, set())
    assert views.keys() == {"theirs"}


def test_names_of_a_restore_are_read_once_and_after_it() -> None:
    networks = CountsReads([])
    reads: list[set[str]] = []

    def around(changed: Any, left: Any) -> list[EndpointRecord]:
        reads.append(set(changed))
        return []

    networks.endpoints_around = around  # type: ignore[method-assign]
    names = DnsPublisher(SimpleNamespace(dns=Path("/nosuch")))  # type: ignore[arg-type]
    names.connect(networks, SimpleNamespace(get=lambda id: None), None)  # type: ignore[arg-type]
    try:
        with names.gathering():
            for n in range(5):
                joined: Any = SimpleNamespace(network=f"n{n}", sandbox=f"s{n}", engine="")
                names.publish([joined], [])
                with names._wake:
                    names._wake.notify()  # whatever else wakes it
            time.sleep(0.02)
            assert reads == []
        names.restore()
        assert reads == [{f"n{n}" for n in range(5)}]
    finally:
        names.close()
