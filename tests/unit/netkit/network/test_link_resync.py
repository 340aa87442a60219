"""What another tool changes of links, addresses, routes and neighbours is noticed and repaired."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from itertools import product
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.model import (
    HOST,
    PORT_FLAGS,
    Addr,
    BridgeRedirect,
    ConnectedRoute,
    Fdb,
    Key,
    Link,
    Neigh,
    Peer,
    Resource,
    Route,
    Sysctl,
)
from netkit.model.link_events import (
    AddressDeleted,
    EventsLost,
    ForwardingDisabled,
    ForwardingEntryDeleted,
    LinkChanged,
    LinkEvent,
    NeighbourChanged,
    RouteChanged,
)
from netkit.network.config import NetworkConfig
from netkit.network.deviation import explicit
from netkit.network.link_interest import EVERYTHING, LinkInterest
from netkit.network.link_resync import FULL, GRACE, LinkResync, Reporting
from netkit.reconcile.backoff import INSISTS
from netkit.reconcile.plan import Op, Plan
from netkit.spec import NetworkSpec
from tests.unit.netkit.network.test_controller import IP, Bench, box, on, tcp

pytestmark = pytest.mark.slow

FREE: dict[str, object] = dict.fromkeys(("master", *PORT_FLAGS))
ICC = "com.docker.network.bridge.enable_icc"


class Source:
    """A watch with the test's events; waiting for them advances the clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[LinkEvent] = []
        self.opened = False
        self.failing: Exception | None = None
        self.closed = False

    def open(self) -> bool:
        opened, self.opened = self.opened, True
        return not opened

    def reset(self) -> None:
        self.opened = False

    def poll(self, seconds: float, *, events: bool = True) -> tuple[bool, bool]:
        if events and self.events:
            return False, True
        self.now += seconds + 0.001
        return False, False

    def read(self) -> Iterator[LinkEvent]:
        if self.failing:
            failing, self.failing = self.failing, None
            raise failing
        events, self.events = self.events, []
        yield from events

    def wake(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class Host(Bench):
    """A host with its link watcher."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, NetworkConfig(ip=IP))
        self.net.start()
        self.interest, self.source = LinkInterest(), Source()
        self.inline.kernel = Reporting(self.kernel, self.interest)  # type: ignore[assignment]
        self.net.links._now = lambda: self.source.now
        self.net.links.addresses_of = self.addresses_of
        self.net.links.port_mtus = self.port_mtus
        self.net.links.marked_links = self.marked_links
        self.resync = LinkResync(
            self.net.links, self.interest, self.source,
            firewall=self.net.repair, now=lambda: self.source.now,
        )  # fmt: skip
        assert self.look() == ()

    def addresses_of(self, dev: str) -> list[object]:
        return [r.address for r in self.kernel.things.values()
                if isinstance(r, Addr) and (r.ns, r.dev) == (HOST, dev)]  # fmt: skip

    def port_mtus(self, bridge: str) -> dict[str, int]:
        return {r.name: r.mtu or 0 for r in self.kernel.things.values()
                if isinstance(r, Link) and r.master == bridge}  # fmt: skip

    def marked_links(self, owners: Collection[str]) -> set[str]:
        return {r.name for r in self.kernel.things.values()
                if isinstance(r, Link) and r.ns == HOST and r.owner in owners}  # fmt: skip

    def look(self, *events: LinkEvent, seconds: float = 2.0) -> Plan:
        """Run the guard on these events for some seconds; return its steps."""
        self.source.events += events
        end, plan = self.source.now + seconds, ()
        while self.source.now < end:
            if self.resync.wait(end - self.source.now):
                done, _ = self.resync.repair()
                plan += done
        return plan

    def one(self, kind: type[Resource], where: Callable[[Key], bool] = lambda _: True) -> Key:
        (key,) = (k for k, r in self.kernel.things.items() if isinstance(r, kind) and where(k))
        return key

    def steps(self) -> list[str]:
        drifts, failures = self.net.check_links()
        assert failures == []
        return [f"{d}: {d.note}" if d.note else str(d) for d in drifts]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    h = Host(tmp_path / "db")
    yield h
    for holder in list(h.ports._by_holder):
        h.ports.release(holder)
    h.database.close()


@pytest.fixture
def joined(host: Host) -> Host:
    """A host with a container on docker0 and on a network with icc=false."""
    apart, _ = host.net.create(NetworkSpec(name="apart", options={ICC: "false"}))
    host.net.open(box(), [on(host.net.find("bridge")), on(apart)], [tcp(80)])
    host.look(seconds=FULL + 1)
    return host


def inside(key: Key) -> bool:
    return key[1] != HOST


def veth(host: Host, master: str = "docker0") -> Link:
    (found,) = (r for r in host.kernel.things.values()
                if isinstance(r, Link) and r.kind == "veth" and r.master == master)  # fmt: skip
    return found


def event_of(r: Resource, near: str) -> LinkEvent:
    """Return the kernel's event for a deletion of `r`."""
    match r:
        case Link():
            return LinkChanged(dev=r.name)
        case Addr():
            return AddressDeleted(dev=near or r.dev, far=bool(near), address=r.address)
        case Route():
            return RouteChanged(dev=near or r.dev, far=bool(near), dst=r.dst)
        case Neigh():
            return NeighbourChanged(dev=r.dev, address=r.address)
        case Fdb():
            return ForwardingEntryDeleted(dev=r.dev, mac=r.mac)
    raise TypeError(r)


def of_ours(key: Key, r: Resource) -> bool:
    return isinstance(r, Link | Addr | Route | Neigh | Fdb)


def test_each_thing_that_is_deleted_comes_back_by_its_event_with_what_went_with_it(
    joined: Host,
) -> None:
    before = dict(joined.kernel.things)
    todo = {k: r for k, r in before.items() if of_ours(k, r)}
    assert {type(r) for r in todo.values()} == {Link, Addr, Route, Neigh, Fdb}
    near = {p.name: k[2] for k, p in joined.kernel.peers.items()}  # eth0 -> veth...
    for key, r in todo.items():
        joined.source.now += 1000  # none of this is an insisting tool
        joined.look(seconds=0.1)
        far = near[key[2]] if inside(key) and key[0] != "route" else ""
        far = near["eth0"] if inside(key) and key[0] == "route" else far
        if isinstance(r, Link):
            joined.kernel._forget_link(HOST, r.name)
        else:
            del joined.kernel.things[key]
        joined.look(event_of(r, far))
        assert joined.kernel.things == before, key
    assert joined.steps() == []


@pytest.mark.parametrize("change", [{"up": False}, FREE, {"mtu": 1000}])
def test_what_is_set_on_a_link_is_set_back(joined: Host, change: dict[str, object]) -> None:
    pair = veth(joined)
    other = replace(pair, **change)  # type: ignore[arg-type]
    joined.kernel.things[pair.key] = other
    plan = joined.look(LinkChanged(dev=pair.name, link=other))
    assert [op.subject.key for op in plan] == [pair.key]
    assert joined.kernel.things[pair.key] == pair


@pytest.mark.parametrize(
    ("theirs", "mtu", "after"),
    [(0, 1400, 1500), (0, 9000, 1500), (1300, 1300, 1300), (1300, 1400, 1300)],
)
def test_a_bridge_without_an_mtu_option_has_the_least_of_its_ports(
    joined: Host, theirs: int, mtu: int, after: int
) -> None:
    name = joined.one(Link, lambda k: k[2].startswith("br-"))[2]
    bridge = joined.kernel.things["link", HOST, name]
    assert isinstance(bridge, Link)
    if theirs:  # another tool's port, with an MTU of its own
        port = Link(name="tap0", kind="tun", master=name, mtu=theirs)
        joined.kernel.things[port.key] = port
    other = replace(bridge, mtu=mtu)
    joined.kernel.things[bridge.key] = other
    plan = joined.look(LinkChanged(dev=name, link=other))
    assert [op.subject.key for op in plan] == [bridge.key] * (mtu != after)
    assert joined.kernel.things[bridge.key] == replace(bridge, mtu=after)
    assert joined.steps() == []


@pytest.mark.parametrize("kind", ["veth", "bridge"])
def test_a_renamed_link_is_deleted_and_made_anew(joined: Host, kind: str) -> None:
    before, peers = dict(joined.kernel.things), dict(joined.kernel.peers)
    link = veth(joined) if kind == "veth" else before["link", HOST, "docker0"]
    assert isinstance(link, Link)
    joined.kernel._forget_link(HOST, link.name)
    other = replace(link, name="foo")
    joined.kernel.things[other.key] = other
    theirs = Link(name="foo2", kind=kind, owner=f"{link.owner}0")
    joined.kernel.things[theirs.key] = theirs
    events = LinkChanged(dev=link.name), LinkChanged(dev="foo", link=other)
    plan = joined.look(*events)
    assert str(plan[0]) == f"- {kind} foo"
    assert joined.kernel.things == {**before, theirs.key: theirs}
    assert joined.kernel.peers == peers
    assert joined.steps() == []


def test_a_pair_whose_far_end_was_moved_is_made_anew(joined: Host) -> None:
    pair, before = veth(joined), dict(joined.kernel.things)
    far = joined.kernel.peers.pop(pair.key)
    joined.kernel._forget(
        lambda r: (getattr(r, "ns", ""), getattr(r, "dev", "")) == (far.ns, far.name)
    )
    plan = joined.look(LinkChanged(dev=pair.name, far=True))
    assert str(plan[0]) == f"- veth {pair.name}"
    assert joined.kernel.things == before
    assert joined.kernel.peers[pair.key] == far


def test_a_connected_route_comes_back_and_forwarding_is_enabled_again(joined: Host) -> None:
    address = joined.kernel.things[joined.one(Addr, lambda k: k[2] == "docker0")]
    assert isinstance(address, Addr)
    key = ("connected", HOST, "docker0", str(address.address))
    joined.kernel.unrouted.add(key)
    (op,) = joined.look(RouteChanged(dev="docker0", dst=address.address.network))
    assert isinstance(op.after, ConnectedRoute)
    assert joined.kernel.unrouted == set()
    forwarding = Sysctl(name="net/ipv4/ip_forward", value="0")
    joined.kernel.things[forwarding.key] = forwarding
    (op,) = joined.look(ForwardingDisabled())
    assert str(op.after) == "setting net/ipv4/ip_forward=1"


def test_only_what_an_event_is_about_is_looked_at(joined: Host) -> None:
    looked: list[set[str] | None] = []
    look = joined.net.links.look

    def spy(owners: set[str] | None = None) -> object:
        looked.append(owners)
        return look(owners)

    joined.net.links.look = spy  # type: ignore[assignment,method-assign]
    pair, quiet = veth(joined), LinkChanged(dev="eth7", link=Link(name="eth7", kind="dummy"))
    joined.look(quiet, LinkChanged(dev=pair.name, link=pair))
    assert looked == []  # another's link, and one of ours that is as it should be
    joined.look(LinkChanged(dev=pair.name, link=replace(pair, up=False)))
    assert looked == [{pair.owner}]
    looked.clear()
    joined.net.open(box("2"), [on(joined.net.find("bridge"))], [])
    new = next(
        r
        for r in joined.kernel.things.values()
        if isinstance(r, Link) and r.kind == "veth" and r.master == "docker0" and r != pair
    )
    joined.look(LinkChanged(dev=new.name, link=new))
    joined.net.close(box("2").id)
    joined.look(LinkChanged(dev=new.name))
    assert looked == []  # what netkit does itself


def test_lost_events_and_a_source_that_fails_cost_one_look_at_everything(joined: Host) -> None:
    pair = veth(joined)
    for trouble in (True, False):
        joined.kernel.things[pair.key] = replace(pair, up=False)
        if trouble:
            plan = joined.look(EventsLost())
        else:
            joined.source.failing = OSError(errno.EBADF, "damaged")
            joined.source.events.append(EventsLost())
            with pytest.raises(OSError, match="damaged"):
                joined.resync.wait(1)
            joined.source.events.clear()
            assert not joined.source.opened
            plan = joined.look()
        assert [op.subject.key for op in plan] == [pair.key]
    joined.kernel.things[pair.key] = replace(pair, up=False)
    assert joined.look(seconds=FULL / 2) == ()  # no event reports it
    assert joined.look(seconds=FULL) != ()


def test_an_address_that_is_replaced_stays_and_one_that_is_deleted_comes_back(
    joined: Host,
) -> None:
    key = joined.one(Addr, lambda k: k[2] == "docker0")
    old = joined.kernel.things.pop(key)
    assert isinstance(old, Addr)
    deleted = AddressDeleted(dev="docker0", address=old.address)
    with_it = RouteChanged(dev="docker0", dst=old.address.network)
    # the tool has not come to the new one
    assert joined.look(deleted, with_it, seconds=GRACE / 2) == ()
    other = Addr(dev="docker0", address=ip_interface("192.168.200.1/24"))
    joined.kernel.things[other.key] = other
    assert joined.look(seconds=FULL * 2) == ()
    assert joined.steps() == [
        "+ address 172.17.0.1/16 on docker0: left alone: docker0 was given 192.168.200.1/24 instead"
    ]
    del joined.kernel.things[other.key]
    (op,) = joined.look(EventsLost())
    assert op.after == old
    beside = replace(other, address=ip_interface("192.168.7.1/24"))  # was there before
    joined.kernel.things[beside.key] = beside
    joined.look(EventsLost())
    del joined.kernel.things[key]
    assert joined.look(deleted) != ()


def test_inside_a_container_that_may_change_its_interfaces_nothing_is_repaired(
    joined: Host,
) -> None:
    joined.net.links.scopes.administered = lambda: {box().id}
    pair = veth(joined)
    keys = [k for k, r in joined.kernel.things.items() if isinstance(r, Addr) and k[2] == "eth0"]
    for key in keys:
        deleted = joined.kernel.things.pop(key)
        assert isinstance(deleted, Addr)
        event = AddressDeleted(dev=pair.name, far=True, address=deleted.address)
        assert joined.look(event, EventsLost()) == ()
    assert all(s.endswith("(CAP_NET_ADMIN)") for s in joined.steps())
    assert len(joined.steps()) == len(keys) == 1
    joined.kernel.things[pair.key] = replace(pair, **FREE)  # type: ignore[arg-type]
    assert [op.subject.key for op in joined.look(EventsLost())] == [pair.key]
    joined.kernel._forget_link(HOST, pair.name)  # with both ends
    assert joined.look(LinkChanged(dev=pair.name)) != ()
    assert joined.steps() == []


def test_drift_is_counted_when_it_is_found_and_what_is_left_alone_while_it_lasts(
    joined: Host,
) -> None:
    def counts() -> tuple[dict[str, int], ...]:
        now = joined.resync.statistics.counts()
        return dict(now.found), dict(now.repaired), dict(now.left_alone)

    before, _, _ = counts()
    assert before == {}
    pair = veth(joined)
    joined.kernel.things[pair.key] = replace(pair, up=False)
    joined.look(LinkChanged(dev=pair.name, link=replace(pair, up=False)))
    assert counts() == ({"link": 1}, {"link": 1}, {})
    joined.net.links.scopes.administered = lambda: {box().id}
    (key,) = (k for k, r in joined.kernel.things.items() if isinstance(r, Addr) and k[2] == "eth0")
    there = joined.kernel.things.pop(key)
    assert isinstance(there, Addr)
    event = AddressDeleted(dev=pair.name, far=True, address=there.address)
    for _ in range(3):  # it is found once
        joined.look(event, EventsLost())
    assert counts() == ({"link": 1, "addr": 1}, {"link": 1}, {"addr": 1})
    joined.kernel.things[key] = there
    joined.look(EventsLost())
    assert counts() == ({"link": 1, "addr": 1}, {"link": 1}, {})


def test_a_tool_that_insists_is_fought_less_and_less_and_named_once(
    joined: Host, caplog: pytest.LogCaptureFixture
) -> None:
    pair = veth(joined)
    other = replace(pair, mtu=1000)
    repairs = 0
    begin = joined.source.now
    while joined.source.now < begin + 600:
        if joined.kernel.things[pair.key] == pair:
            joined.kernel.things[pair.key] = other
            repairs += 1
            joined.look(LinkChanged(dev=pair.name, link=other), seconds=1)
        else:
            joined.look(seconds=1)
    assert INSISTS < repairs < 13
    assert caplog.text.count("another tool keeps changing") == 1
    (step,) = joined.steps() or [""]
    assert f"~ veth {pair.name}: mtu 1000, not 1500: another tool insists" in step
    joined.kernel.things[pair.key] = replace(pair, up=False)  # something else is repaired at once
    joined.look(LinkChanged(dev=pair.name, link=replace(pair, up=False)))
    assert joined.kernel.things[pair.key] == pair


def test_what_cannot_be_repaired_does_not_stop_the_rest_and_is_logged_once(
    joined: Host, caplog: pytest.LogCaptureFixture
) -> None:
    pair, step = veth(joined), joined.kernel._step
    bridge = next(r for r in joined.kernel.things.values()
                  if isinstance(r, Link) and r.name.startswith("br-"))  # fmt: skip

    def refuse(op: Op) -> None:
        if op.subject.key == pair.key:
            raise KernelError("injected", errno=errno.EIO)
        step(op)

    joined.kernel._step = refuse  # type: ignore[method-assign]
    joined.kernel.things[pair.key] = replace(pair, up=False)
    joined.kernel.things[bridge.key] = replace(bridge, up=False)
    joined.look(EventsLost(), seconds=30)
    assert joined.kernel.things[bridge.key] == bridge
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert [r.getMessage().count("injected") for r in errors] == [1]
    assert "failed: injected; next attempt in" in joined.steps()[0]
    joined.kernel._step = step  # type: ignore[method-assign]
    joined.look(seconds=60)
    assert joined.kernel.things[pair.key] == pair


def test_what_is_under_way_and_what_is_not_netkits_is_left_alone(joined: Host) -> None:
    pair = veth(joined)
    joined.kernel._forget_link(HOST, pair.name)
    with ThreadPoolExecutor(1) as pool, joined.net._sandboxes.locks.hold(box().id):
        pool.submit(joined.look, LinkChanged(dev=pair.name)).result()
        assert pair.key not in joined.kernel.things
    joined.look()  # without another event
    assert pair.key in joined.kernel.things
    joined.kernel._forget_link(HOST, pair.name)
    theirs = Link(name=pair.name, kind="dummy")
    joined.kernel.things[pair.key] = theirs
    joined.look(EventsLost())
    assert joined.kernel.things[pair.key] == theirs
    assert any("left alone: what is there is not netkit's" in s for s in joined.steps())
    del joined.kernel.things[pair.key], joined.kernel.things["netns", box().ns]
    assert joined.look(EventsLost()) == ()  # the container has ended this moment


def test_rules_that_waited_for_a_link_come_back_with_it(joined: Host) -> None:
    before = dict(joined.kernel.things)
    assert any(isinstance(r, BridgeRedirect) for r in before.values())
    pair = next(r for r in before.values() if isinstance(r, Link) and r.isolated)
    joined.kernel._forget_link(HOST, pair.name)
    joined.net.repair()  # the firewall alone: rules that need a link wait for it
    joined.look(LinkChanged(dev=pair.name))
    assert joined.kernel.things == before


def test_hints_are_the_owners_of_what_is_not_as_it_was_applied() -> None:
    interest = LinkInterest()
    uplink = Link(name="br0", kind="bridge", owner="netkit:e:n", accept_existing=True)
    pair = Link(name="veth1", kind="veth", master="br0", owner="netkit:e:n:x")
    interest.applied([Op(None, uplink), Op(None, pair)])
    assert interest.added() == {"br0", "veth1"}
    assert interest.added() == set()
    assert "veth1" in interest
    assert "eth7" not in interest
    # a network of which only steps were seen: what it adopted is learned
    assert [interest.hints([]) for _ in range(2)] == [{"netkit:e:n": False}, {}]
    address = Addr(dev="br0", address=ip_interface("10.1.0.1/24"), owner="netkit:e:n")
    interest.learn({address.key: address})
    deleted = AddressDeleted(dev="br0", address=address.address)
    assert interest.hints([deleted]) == {"netkit:e:n": True}
    local = Addr(dev="nko1", address=ip_interface("10.1.0.1/24"), owner="netkit:e:n")
    interest.learn({local.key: local})  # on a link that is not netkit's own
    for up, hinted in ((False, True), (False, False), (True, True), (True, False)):
        heard = LinkChanged(dev="nko1", link=Link(name="nko1", kind="tun", up=up))
        assert interest.hints([heard]) == ({"netkit:e:n": False} if hinted else {})
    good = replace(explicit(pair), owner="netkit:e:n:x")
    for link, hinted in ((good, False), (replace(good, mtu=9000), True), (None, True)):
        found = interest.hints([LinkChanged(dev="veth1", link=link)])
        assert found == ({"netkit:e:n:x": False} if hinted else {})
    foreign = Link(name="br0", kind="bridge", up=False)  # the administrator's, as he wants it
    assert interest.hints([LinkChanged(dev="br0", link=foreign)]) == {}
    route = RouteChanged(dev="veth1", dst=ip_network("10.0.0.0/8"))
    assert interest.hints([route]) == {}
    assert interest.hints([EventsLost()]) == {EVERYTHING: False}
    interest.applied([Op(pair, None)])
    assert interest.hints([LinkChanged(dev="veth1")]) == {}
    assert "veth1" not in interest


def test_nothing_is_kept_of_what_went_with_a_link() -> None:
    interest = LinkInterest()
    pair = Link(name="veth1", kind="veth", peer=Peer(ns="/ns", name="eth0"), owner="netkit:e:n:x")
    bridge = Link(name="br0", kind="bridge", owner="netkit:e:n")
    gateway = Addr(dev="br0", address=ip_interface("10.1.0.1/24"), owner="netkit:e:n")
    address = Addr(dev="eth0", ns="/ns", address=ip_interface("10.1.0.2/24"), owner="netkit:e:n:x")
    interest.applied([Op(None, r) for r in (bridge, gateway)])
    before = dict(interest._wanted), dict(interest._on)
    interest.applied([Op(None, r) for r in (pair, address)])
    interest.applied([Op(pair, None)])
    assert (interest._wanted, interest._on) == before
    interest.applied([Op(None, pair), Op(None, address)])
    interest.applied([Op(pair, None), Op(None, pair), Op(None, address)])  # made anew
    assert interest._wanted.keys() == {bridge.key, gateway.key, pair.key, address.key}


def test_an_end_that_takes_longer_frames_than_it_should_is_hinted_at() -> None:
    interest = LinkInterest()
    pair = Link(
        name="veth1", kind="veth", peer=Peer(ns="/ns", name="eth0"), gso_max_size=62000,
        owner="netkit:e:n:x",
    )  # fmt: skip
    interest.applied([Op(None, pair)])
    interest.hints([])
    for far, size in product((False, True), (62000, 65536)):
        end = replace(explicit(pair), name="eth0" if far else "veth1", peer=None, gso_max_size=size)
        found = interest.hints([LinkChanged(dev="veth1", far=far, link=end)])
        assert found == ({"netkit:e:n:x": False} if size == 65536 else {})
