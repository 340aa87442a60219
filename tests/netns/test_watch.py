"""Events of real namespaces: only of our links, from the host and from far ends."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from netkit.kernel.netlink import watch
from netkit.kernel.netlink.observe import marked_links
from netkit.kernel.netlink.watch import LinkWatch
from netkit.model import Netns
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
from netkit.reconcile.converge import Change, converge, ownership
from tests.netns.conftest import NET, Lab

pytestmark = pytest.mark.root

ANYWHERE = ip_network("0.0.0.0/0")
NEAR, FAR, BRIDGE = ip_interface("10.77.0.1/16"), ip_interface("10.77.0.3/16"), {"dev": "br0"}
NOISE = "link add f1 type bridge\nlink set f1 up\nlink del f1\n" * 40


class Names(set[str]):
    """Links of interest, all of which existed when the watch began."""

    def added(self) -> set[str]:
        return set()


@pytest.fixture
def town(lab: Lab) -> Lab:
    """A bridge and a container, and a bridge of the administrator's."""
    lab.make(lab.host(), *lab.bridge(), *lab.container(1))
    lab.run("ip", "link", "add", "br7", "type", "bridge")
    return lab


def events(w: LinkWatch, until: LinkEvent) -> list[LinkEvent]:
    """Return all events up to one that is waited for."""
    out: list[LinkEvent] = []
    end = time.monotonic() + 60
    while until not in out:
        assert time.monotonic() < end, (until, out)
        w.poll(0.1)
        out += w.read()
    return out


def test_deletions_are_reported_from_the_host_and_from_far_ends(town: Lab) -> None:
    mac, there = "02:42:0a:01:01:09", town.ns("c1")
    w = LinkWatch(town.home, "netkit:0:", Names())
    try:
        assert (w.open(), w.open()) == (True, False)
        for at, command, event in (
            ("", "ip addr del 10.77.0.1/16 dev br0", AddressDeleted(**BRIDGE, address=NEAR)),
            ("", f"ip neigh add 10.77.0.9 lladdr {mac} dev br0 nud permanent",
             NeighbourChanged(**BRIDGE, address=ip_address("10.77.0.9"), mac=mac)),
            ("", "ip neigh del 10.77.0.9 dev br0",
             NeighbourChanged(**BRIDGE, address=ip_address("10.77.0.9"))),
            ("", f"bridge fdb add {mac} dev veth1 master static", None),
            ("", f"bridge fdb del {mac} dev veth1 master",
             ForwardingEntryDeleted(dev="veth1", mac=mac)),
            (there, "ip route del default", RouteChanged(dev="veth1", far=True, dst=ANYWHERE)),
            (there, "ip route del 10.77.0.0/16 dev eth0",
             RouteChanged(dev="veth1", far=True, dst=FAR.network)),
            (there, "ip addr del 10.77.0.3/16 dev eth0",
             AddressDeleted(dev="veth1", far=True, address=FAR)),
            ("", "sysctl -qw net.ipv4.ip_forward=1", None),
            ("", "sysctl -qw net.ipv4.ip_forward=0", ForwardingDisabled()),
            (there, "ip link del eth0", LinkChanged(dev="veth1")),
            ("", "ip link del br0", LinkChanged(dev="br0")),
        ):  # fmt: skip
            town.run(*command.split(), at=at)
            if event is not None:
                events(w, event)
    finally:
        w.close()


def test_an_end_that_is_left_of_a_moved_or_renamed_pair_is_known_by_the_other_ends_mark(
    town: Lab,
) -> None:
    there, away = town.ns("c1"), f"{town.folder}/away"
    host, key, mark = town.host(), ("link", town.ns("c1"), "eth0"), f"{NET}:000000000001"
    town.make(host, Netns(path=away, owner=NET))
    assert marked_links(town.home, {mark, "netkit:0:other"}) == {"veth1"}
    for command, at in (("ip link set veth1 name foo", ""), (f"ip link set foo netns {away}", "")):
        town.run(*command.split(), at=at)
        (end,) = host.observe([key]).values()
        assert end.owner == mark
    assert marked_links(town.home, {mark}) == set()
    town.run("ip", "link", "set", "foo", "alias", "theirs", at=away)
    (end,) = host.observe([key]).values()
    assert end.owner is None
    town.run("ip", "link", "set", "foo", "alias", mark, at=away)
    converge(Change.of({}, host.observe([key])), host, ownership("0", town.folder))
    assert "foo" not in town.run("ip", "link", at=away)
    assert "eth0" not in town.run("ip", "link", at=there)


def test_changed_links_are_reported_with_their_masters_and_names(town: Lab) -> None:
    w = LinkWatch(town.home, "netkit:0:", Names({"br7"}))

    def until(dev: str, shape: tuple[object, ...], *, far: bool = False) -> bool:
        end, seen = time.monotonic() + 60, []
        while time.monotonic() < end:
            for event in w.read():
                if isinstance(event, LinkChanged) and (event.dev, event.far) == (dev, far):
                    link = event.link
                    seen.append(link and (link.up, link.master, link.mtu, link.owner))
            if shape in seen:
                return True
            w.poll(0.1)
        raise AssertionError(seen)

    try:
        w.open()
        mark = f"{NET}:000000000001"
        town.run("ip", "link", "set", "veth1", "mtu", "1300")
        assert until("veth1", (True, "br0", 1300, mark))
        town.run("ip", "link", "set", "veth1", "nomaster")
        assert until("veth1", (True, None, 1300, mark))
        town.run("ip", "link", "set", "eth0", "down", at=town.ns("c1"))
        assert until("veth1", (False, None, 1500, None), far=True)
        town.run("ip", "link", "set", "br7", "up")
        assert until("br7", (True, None, 1500, None))
        town.run("ip", "link", "set", "br7", "name", "br8")
        events(w, LinkChanged(dev="br7"))
    finally:
        w.close()


def test_a_flag_of_a_bridge_port_is_reported(town: Lab) -> None:
    """The kernel tells of it in a message of the bridge's alone."""
    w = LinkWatch(town.home, "netkit:0:", Names(set()))
    try:
        w.open()
        town.run("bridge", "link", "set", "dev", "veth1", "isolated", "on")
        end, isolated = time.monotonic() + 60, False
        while not isolated and time.monotonic() < end:
            w.poll(0.1)
            seen = [e.link for e in w.read() if isinstance(e, LinkChanged) and e.dev == "veth1"]
            isolated = any(link is not None and link.isolated for link in seen)
        assert isolated
    finally:
        w.close()


def test_foreign_links_are_not_reported_and_a_flood_of_them_is_one_event(
    town: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = LinkWatch(town.home, "netkit:0:", Names())
    deleted = AddressDeleted(**BRIDGE, address=NEAR)
    try:
        w.open()
        town.run("ip", "-batch", "-", text=NOISE)
        town.run("ip", "addr", "del", "10.77.0.1/16", "dev", "br0")
        assert {getattr(e, "dev", "") for e in events(w, deleted)} <= {"br0", "veth1"}
        w.reset()
        monkeypatch.setattr(watch, "BUFFER", 1 << 16)
        w.open()
        town.run("ip", "-batch", "-", text=NOISE)
        assert events(w, EventsLost())[-1] == EventsLost()
        town.run("ip", "link", "del", "br0")  # and it goes on
        events(w, LinkChanged(dev="br0"))
    finally:
        w.close()


def test_many_messages_about_one_link_cost_one_decoding(
    town: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As each start and end of a container causes them; a bridge adds some about its port."""
    w, decoded, asked = LinkWatch(town.home, "netkit:0:", Names()), [], []
    real, learn = watch.rtnl.seen_link, w._learn

    def seen_link(body: bytes) -> object:
        decoded.append(body)
        return real(body)

    def learning(*which: str | int) -> object:
        asked.append(which)
        return learn(*which)

    lines = [
        f"link set {dev} mtu {mtu}" for mtu in range(1301, 1311) for dev in ("veth1", "br0")
    ]
    lines += ["link set veth1 nomaster", "link set veth1 master br0"] * 5
    try:
        w.open()
        # The kernel has sent all messages once each command is done: they wait in the socket.
        town.run("ip", "-batch", "-", text="\n".join(lines))
        with monkeypatch.context() as patch:
            patch.setattr(watch.rtnl, "seen_link", seen_link)
            patch.setattr(w, "_learn", learning)
            found = list(w.read())
        near = [e.link for e in found if isinstance(e, LinkChanged) and e.dev == "veth1"]
        assert near[-1] is not None
        assert (near[-1].mtu, near[-1].master) == (1310, "br0")
        assert len(asked) <= 1
        assert len(decoded) <= 6  # both links, the far end, and the port that is asked about
    finally:
        w.close()

