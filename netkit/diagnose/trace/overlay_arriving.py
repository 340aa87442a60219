"""Follow a frame that left another host over an overlay into this one.  Pure."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import NamedTuple

from netkit.diagnose.explain.packet import EPHEMERAL, Ends
from netkit.diagnose.trace import advice
from netkit.diagnose.trace.facts import HOST, Located, Observer, OverlayNetwork
from netkit.diagnose.trace.leg import Elsewhere, Left, Stop, Tunnel
from netkit.diagnose.trace.overlay import (
    FASTDP,
    LAUNCH,
    SENDERS,
    STATUS,
    VXLAN,
    Outer,
    attached,
    located,
)
from netkit.diagnose.trace.overlay import outer as outer_packet
from netkit.diagnose.trace.stops import fits, usable
from netkit.diagnose.trace.switching import Say


class Arrival(NamedTuple):
    """Where a frame comes out of the overlay."""

    bridge: str
    port: str

def arriving(
    came: Left, ends: Ends, size: int, observer: Observer, say: Say, outer: Outer
) -> Arrival:
    """Where what left another host comes out.  Elsewhere: not here.  Stop: it does not."""
    for tunnel in came.tunnels:
        network = next((n for n in observer.overlays() if n.ports.vni == tunnel.key), None)
        if tunnel.kind == FASTDP:
            if not _here(tunnel.remote, observer):
                continue
            return _from_kernel(tunnel, network, came, ends, size, observer, say, outer)
        if network is not None and (found := _mine(tunnel, network, came, observer)) is not None:
            return _from_process(tunnel, network, found, came, ends, observer, say, outer)
    raise Elsewhere


def _here(address: str, observer: Observer) -> bool:
    return bool(address) and IPv4Address(address) in observer.space(HOST).facts.local


def _mine(
    tunnel: Tunnel, network: OverlayNetwork, came: Left, observer: Observer
) -> Located | None:
    """What is known of the sender's MAC address, if it is this host that is sent to."""
    found = located(network.ports.vni, came.mac_src, IPv4Address(came.near), observer)
    if found is None and ":" not in tunnel.remote and _here(tunnel.remote, observer):
        words = f"it comes to {tunnel.remote}, where the weave overlay does not run"
        raise Stop("overlay-off", words, LAUNCH)
    return found if found is not None and found.me == tunnel.receiver else None


def _from_kernel(
    tunnel: Tunnel, network: OverlayNetwork | None, came: Left, ends: Ends, size: int,
    observer: Observer, say: Say, outer: Outer,
) -> Arrival:  # fmt: skip
    host, peer = observer.space(HOST), IPv4Address(tunnel.local)
    dev = host.facts.local[IPv4Address(tunnel.remote)].name
    fits(host, usable(host, dev), size, VXLAN)
    if network is None or network.ports.vxlan is None:
        words = f"{host.name} has no network that takes VXLAN number {tunnel.key} from {peer}"
        raise Stop("tunnel-down", words, "netkit network ls  # has it the network, not encrypted?")
    ports, device = network.ports, network.ports.vxlan
    say(host.name, "overlay", f"fastdp from {peer} by {dev}: VXLAN number {ports.vni}, network "
        f"{network.name}")  # fmt: skip
    remote = IPv4Address(tunnel.remote)
    outer(outer_packet(peer, remote, EPHEMERAL, ports.port, known=False), dev)
    _admitted(tunnel, network, came, ends, dev, observer)
    nic = host.nics.get(device)
    if nic is not None and not nic.up:
        words = f"{device} of {host.name} is down: nothing checks who sends by VXLAN"
        raise Stop("link-down", words, f"{LAUNCH}  # its process sets it up, once that is checked")
    usable(host, device)
    return _to_container(came, Arrival(ports.bridge, device), observer)


def _admitted(
    tunnel: Tunnel, network: OverlayNetwork, came: Left, ends: Ends, dev: str, observer: Observer
) -> None:
    """Stop: the table of senders does not let it in (netkit.kernel.nftables.senders)."""
    peer, vni = IPv4Address(tunnel.local), network.ports.vni
    answer = observer.admits(peer, vni, came.mac_src, ends.src)
    back = observer.route(HOST, peer).dev
    if answer == "dropped":
        found = located(vni, came.mac_src, ends.src, observer)
        why = "that is no address of a container there"
        if found is None:
            why = "the overlay's process, which lets in new ones, does not run on this host"
        elif found.peer:
            why = f"{came.mac_src} with {_shown(found)} is at {found.name or 'this host'}"
        words = f"{SENDERS} drops what comes from {peer} with {came.mac_src}, {ends.src}: {why}"
        raise Stop("source-guard", words, "" if found else LAUNCH)
    if answer == "unknown":
        words = f"table {SENDERS}, which checks who sends by VXLAN, was changed by another tool"
        raise Stop("rule-unknown", words, LAUNCH)
    if answer == "admitted" and back != dev:
        words = f"{SENDERS} drops what comes by {dev}: the way back to {peer} is by {back or '-'}"
        raise Stop("rp-filter", words, advice.route(observer.space(HOST), peer, observer))


def _shown(found: Located) -> str:
    return ", ".join(map(str, sorted(found.addresses))) or "no address"


def _from_process(
    tunnel: Tunnel, network: OverlayNetwork, found: Located, came: Left, ends: Ends,
    observer: Observer, say: Say, outer: Outer,
) -> Arrival:  # fmt: skip
    host, ports = observer.space(HOST), network.ports
    source = f" from {found.name}" if found.name else ""
    say(host.name, "overlay", f"{tunnel.kind}{source}: network {network.name}, by {ports.tap}")
    if tunnel.local and _here(tunnel.remote, observer):  # else there is NAT between the two
        remote = IPv4Address(tunnel.remote)
        port = found.port or 6783
        packet = outer_packet(IPv4Address(tunnel.local), remote, (port, port), port, known=True)
        outer(packet, host.facts.local[remote].name)
    if found.peer != tunnel.sender or ends.src not in found.addresses:
        who = f"{_shown(found)} at {found.name or 'this host'}" if found.peer else found.why
        words = f"{host.name} does not take {came.mac_src} with {ends.src} from there: {who}"
        raise Stop("source-guard", words, STATUS)
    if found.way == "none":
        raise Stop("tunnel-down", f"{host.name} has no session with its host: {found.why}", STATUS)
    attached(host, ports.tap, found)
    return _to_container(came, Arrival(ports.bridge, ports.tap), observer)


def _to_container(came: Left, arrival: Arrival, observer: Observer) -> Arrival:
    """Stop: what the frame is addressed to is not on this host."""
    host, near = observer.space(HOST), IPv4Address(came.near)
    target = host.facts.neighbour(arrival.bridge, near)
    known = host.nics[arrival.bridge].mac if near in host.facts.local else ""
    if target is not None:
        inside = observer.space(target.container.id).nics.get(target.place.ifname)
        known = inside.mac if inside else ""
    if not known:
        words = f"it is for {near} at {came.mac_dst}, which no container of {host.name} has"
        raise Stop("no-neighbour", words)
    if known != came.mac_dst:
        words = f"it is sent to {near} at {came.mac_dst}, but that has {known}"
        raise Stop("wrong-mac", words, "ip neigh flush dev IFACE  # of the sender")
    return arrival
