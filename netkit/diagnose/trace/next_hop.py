"""How a packet gets to its next hop: routes, neighbour entries, and entries of a bridge.  Pure.

Each function raises `Stop` where it does not get there, with what would help.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from netkit.diagnose.explain.facts import Container, Place
from netkit.diagnose.trace import advice
from netkit.diagnose.trace.facts import HOST, Observer, Space
from netkit.diagnose.trace.leg import Stop
from netkit.diagnose.trace.stops import down, fits, usable
from netkit.diagnose.trace.switching import Say


def routed(space: Space, dst: IPv4Address, observer: Observer, say: Say) -> None:
    """The kernel has a route to the address, and it is that of its main table."""
    way = observer.route(space.key, dst)
    say(space.name, "route", f"to {dst}: {way}")
    if way.dev:
        predicted = space.facts.route(dst)
        if not way.local and predicted is not None and predicted.dev not in {way.dev, ""}:
            words = f"the kernel sends {dst} by {way.dev}, its main table by {predicted.dev}"
            raise Stop("policy-routing", words)
        return
    fallen = [n for n in space.nics.values() if not n.up and n.kind == "veth"]
    if fallen and space.key != HOST:  # its routes went with it
        raise down(space, fallen[0])
    raise Stop(
        "no-route",
        f"{space.name} has no route to {dst} ({way.why})",
        advice.route(space, dst, observer),
    )


def mac_of(key: str, dev: str, observer: Observer) -> str:
    """The MAC address of an interface in a namespace; "" if it is not there."""
    nic = observer.space(key).nics.get(dev)
    return nic.mac if nic else ""


def macs_for(dev: str, near: IPv4Address, observer: Observer) -> set[str]:
    """MAC addresses with which a frame for `near` may come by an interface of the host's."""
    host = observer.space(HOST)
    found = host.facts.neighbour(dev, near)
    inside = {mac_of(found.container.id, found.place.ifname, observer)} if found else set()
    return inside | {host.nics[dev].mac}


def neighbour_right(
    space: Space, dev: str, near: IPv4Address, bridge: str, observer: Observer
) -> None:
    """The sender's neighbour entry for the next hop must hold a MAC address of the bridge's."""
    mac, host = space.neighbours.get((dev, near), ""), observer.space(HOST)
    if host.facts.neighbour(bridge, near) is None and not host.facts.is_local(near):
        return
    if mac and mac not in macs_for(bridge, near, observer):
        raise Stop(
            "wrong-mac",
            f"{space.name} sends to {near} at {mac}, which is not its MAC address",
            f"{advice.inside(space)}ip neigh del {near} dev {dev}",
        )


def bridged(container: Container, place: Place, size: int, observer: Observer, say: Say) -> None:
    """A bridge of the host hands a packet of so many bytes to a container."""
    host = observer.space(HOST)
    usable(host, place.bridge)
    try:
        fits(host, usable(host, place.port), size)
    except Stop as s:
        if s.code == "link-down" and not s.fix:  # no carrier: the container's end is down
            s.fix = f"{advice.inside(observer.space(container.id))}ip link set {place.ifname} up"
        raise
    mac = mac_of(container.id, place.ifname, observer)
    at = host.fdb.get((place.bridge, mac), "")
    entry = f"its FDB has {mac} at {at}" if at else f"its FDB does not know {mac}: to all ports"
    say(host.name, "bridge", f"{place.bridge} -> {place.port}; {entry}")
    if at not in {"", place.port}:
        raise Stop(
            "fdb-elsewhere",
            f"{place.bridge} sends {mac} to {at}, but {container.name} is at {place.port}",
            f"bridge fdb del {mac} dev {at} master",
        )
