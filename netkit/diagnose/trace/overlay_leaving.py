"""Follow a frame out of a host over an overlay: by which way, to which host, and why.  Pure."""

from __future__ import annotations

from ipaddress import IPv4Address

from netkit.diagnose.explain.packet import EPHEMERAL, Span
from netkit.diagnose.trace import advice
from netkit.diagnose.trace.facts import HOST, Located, Nic, Observer, OverlayNetwork, Space
from netkit.diagnose.trace.leg import Doubt, Left, Stop, Tunnel
from netkit.diagnose.trace.overlay import (
    FASTDP,
    LAUNCH,
    RELAY,
    SLEEVE,
    STATUS,
    VXLAN,
    Outer,
    attached,
    located,
)
from netkit.diagnose.trace.overlay import outer as outer_packet
from netkit.diagnose.trace.stops import fits, usable
from netkit.diagnose.trace.switching import Frame, Say, Tunnelled
from netkit.model.vxlan import ALL


def leaving(
    frame: Frame, network: OverlayNetwork, size: int, observer: Observer, say: Say, outer: Outer
) -> Tunnelled:
    """How a frame for another host leaves this one; `size` of its packet.  Stop: it does not."""
    host, ports = observer.space(HOST), network.ports
    mac = frame.mac_dst or host.neighbours.get((ports.bridge, frame.near), "")
    found = located(ports.vni, mac, frame.near, observer)
    if not mac and found is not None and found.peer not in {"", found.me}:
        mac = found.mac  # the question of ARP goes to that host, and is answered there
    if not mac:
        raise _nobody(frame.near, network, found)
    at = host.fdb.get((ports.bridge, mac), "")
    out = at or "nowhere: it has no such entry"
    say(host.name, "bridge", f"{ports.bridge}: {frame.near} is {mac}, which its FDB has at {out}")
    if not at or at not in {ports.vxlan, ports.tap}:
        raise _astray(frame, mac, at, network, found, observer)
    if at == ports.vxlan:
        return _by_kernel(frame, mac, network, size, found, observer, say, outer)
    return _by_process(frame, mac, network, found, observer, say, outer)


def _nobody(near: IPv4Address, network: OverlayNetwork, found: Located | None) -> Stop:
    words = f"no container of this host has {near} on network {network.name}"
    if found is None:
        words += ", and the weave overlay, which knows others, does not run on this host"
        return Stop("overlay-off", words, LAUNCH)
    why = f"{found.name or 'this host'} has it, and does not answer" if found.peer else found.why
    return Stop("no-neighbour", f"{words}: {why}")


def _astray(
    frame: Frame, mac: str, at: str, network: OverlayNetwork, found: Located | None,
    observer: Observer,
) -> Stop:  # fmt: skip
    """A frame that the bridge does not send to other hosts."""
    bridge, near = network.ports.bridge, frame.near
    if found is None:
        words = f"{bridge} does not know {mac}, and the weave overlay does not run on this host"
        return Stop("overlay-off", words, LAUNCH)
    if found.peer not in {"", found.me} and not at:
        if found.way == "none":  # there is an entry once there is a way
            return _no_way(near, found)
        words = f"{bridge} has no entry for {mac} of {found.name}: another tool deleted it"
        return Stop("fdb-elsewhere", words, STATUS)
    now = located(network.ports.vni, "", near, observer)
    if now is None or not now.peer or now.mac == mac:
        return _nobody(near, network, now)
    where = f"{now.name or 'this host'} has it at {now.mac}"
    return Stop(
        "wrong-mac",
        f"it is sent to {near} at {mac}, but {where}",
        f"ip neigh del {near} dev IFACE  # in the sender's namespace",
    )


def _no_way(near: IPv4Address, found: Located) -> Stop:
    words = f"there is no way to {found.name}, where {near} is: {found.reason}"
    return Stop("tunnel-down", words, STATUS)


def _by_kernel(
    frame: Frame, mac: str, network: OverlayNetwork, size: int, found: Located | None,
    observer: Observer, say: Say, outer: Outer,
) -> Tunnelled:  # fmt: skip
    host, ports = observer.space(HOST), network.ports
    device = ports.vxlan or ""
    usable(host, device)
    hosts = host.tunnels.get((device, mac)) or host.tunnels.get((device, ALL), ())
    if not hosts:
        raise Stop("tunnel-down", f"{device} has no entry by which {mac} leads to a host", STATUS)
    why = _reason(found) if found else "the overlay's process does not run: as it was left"
    tunnels = []
    for peer in hosts:
        name = f"{found.name} ({peer})" if found and found.host == str(peer) else str(peer)
        say(host.name, "overlay", f"fastdp to {name}: VXLAN number {ports.vni}, udp/{ports.port}; "
            f"{why}")  # fmt: skip
        local, dev = _sent(host, peer, EPHEMERAL, ports.port, observer, outer)
        fits(host, dev, size, VXLAN)
        tunnels.append(Tunnel(
            kind=FASTDP, remote=str(peer), local=str(local), key=ports.vni,
            sender=found.me if found else "", receiver=found.peer if found else "", name=name,
        ))  # fmt: skip
    doubts = []
    if found is None:
        words = f"nothing probes whether fastdp to {tunnels[0].name} works: the overlay's process "
        doubts.append(Doubt("tunnel-unwatched", words + "does not run on this host"))
    left = Left(
        dev=ports.bridge, near=str(frame.near), mac_src=frame.mac_src, mac_dst=mac,
        tunnels=tuple(tunnels),
    )  # fmt: skip
    return Tunnelled(left, doubts)


def _by_process(
    frame: Frame, mac: str, network: OverlayNetwork, found: Located | None, observer: Observer,
    say: Say, outer: Outer,
) -> Tunnelled:  # fmt: skip
    host, ports = observer.space(HOST), network.ports
    attached(host, ports.tap, found)
    assert found is not None
    if found.peer in {"", found.me}:
        raise Stop("no-neighbour", f"{mac} on network {network.name}: {found.why}")
    if found.way == "none":
        raise _no_way(frame.near, found)
    kind, sealed = RELAY if found.way == RELAY else SLEEVE, "sealed" if found.sealed else "in clear"
    where = f"by way of {found.hop}" if kind == RELAY else f"udp/{found.port}"
    to = f"{found.name} ({found.host})" if found.host else found.name
    say(host.name, "overlay", f"{kind} to {to}, {where}, {sealed}; {_reason(found)}")
    local: IPv4Address | None = None
    if kind == SLEEVE and ":" not in found.host:
        span = (found.port, found.port)
        peer = IPv4Address(found.host)
        local, _ = _sent(host, peer, span, found.port, observer, outer)
    tunnel = Tunnel(
        kind=kind, remote=found.host, local=str(local or ""), key=ports.vni,
        sender=found.me, receiver=found.peer, name=to,
    )  # fmt: skip
    left = Left(
        dev=ports.bridge, near=str(frame.near), mac_src=frame.mac_src, mac_dst=mac,
        tunnels=(tunnel,),
    )  # fmt: skip
    return Tunnelled(left, [])


def _reason(found: Located) -> str:
    """As `status connections` has it, without the way before it."""
    return found.reason.removeprefix(f"{found.way}: ").removeprefix(f"relay by {found.hop}: ")


def _sent(
    host: Space, peer: IPv4Address, sport: Span, port: int, observer: Observer, outer: Outer,
) -> tuple[IPv4Address, Nic]:  # fmt: skip
    """Follow the outer packet out of the host; return its source address, and by which link."""
    way = observer.route(HOST, peer)
    if not way.dev or way.source is None:
        words = f"{host.name} has no route to {peer}, where the overlay leads ({way.why})"
        raise Stop("no-route", words, advice.route(host, peer, observer))
    nic = usable(host, way.dev)
    known = sport != EPHEMERAL
    outer(outer_packet(way.source, peer, sport, port, known=known), "")
    return way.source, nic


