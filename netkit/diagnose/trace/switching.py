"""Follow a frame through Open vSwitch, by its own ofproto/trace.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import NamedTuple

from netkit.diagnose.explain.packet import ECHO_REPLY, ECHO_REQUEST, Ends
from netkit.diagnose.trace import advice, logical, switch_device, underlay
from netkit.diagnose.trace.facts import (
    HOST,
    Endpoint,
    Header,
    Nic,
    Observer,
    Output,
    Pipeline,
    Space,
    SwitchPort,
)
from netkit.diagnose.trace.leg import Ask, Doubt, Elsewhere, Left, Stop, Tunnel
from netkit.diagnose.trace.overlay import Outer
from netkit.model.openvswitch import COOKIE

# see plugins/ovs/access.py
ACCESS = re.compile(rf"table 1:.* priority [1-6]\d{{4}}, cookie {COOKIE >> 56:#x}")
EVERYBODY = "ff:ff:ff:ff:ff:ff"
HALF = "init"  # BFD: packets of the far end arrive, but it reports none of ours (RFC 5880 6.2)
INTERNAL = "internal"  # ports that Open vSwitch makes as interfaces of the host
Say = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Comes into `bridge` by `port` for the next hop `near`; `mac_dst` where it is known."""

    bridge: str
    port: str
    near: IPv4Address
    nic: Nic | None = None  # the sender's
    mac_src: str = ""
    mac_dst: str = ""
    came: Tunnel | None = None  # by which it came
    any_key: bool = False  # flows look at that tunnel's key


class Tunnelled(NamedTuple):
    """How a frame leaves the host, and what is not known for sure of the tunnels."""

    left: Left
    doubts: list[Doubt]


def receiving_interface(near: IPv4Address, host: Space) -> str:
    """Return the interface of the host that receives packets for `near`.  Elsewhere: none."""
    own = host.facts.local.get(near)
    if own is not None and (not own.bridge or host.facts.strangers(own.name)):
        return own.name
    for _, place in host.facts.places:
        if place.address.ip == near and host.facts.strangers(place.bridge):
            return place.bridge
    raise Elsewhere


def arriving(came: Left, observer: Observer) -> Frame:
    """The port at which what left another host by a tunnel comes in.  Elsewhere: at none."""
    host = observer.space(HOST)
    for tunnel in came.tunnels:
        if not host.facts.is_local(IPv4Address(tunnel.remote)):
            continue
        device = switch_device.entered(tunnel, observer)
        ports = sorted(observer.switch_ports(), key=lambda p: p.any_key)  # the others first
        for p in ports:
            made = (p.kind, str(p.remote)) == (tunnel.kind, tunnel.local)
            if (made and (p.any_key or p.key == tunnel.key)) or p == device:
                return Frame(
                    bridge=p.bridge,
                    port=p.name,
                    near=IPv4Address(came.near),
                    mac_src=came.mac_src,
                    mac_dst=came.mac_dst,
                    came=tunnel,
                    any_key=p.any_key,
                )
    raise Elsewhere


def switch(
    frame: Frame, ends: Ends, ask: Ask, observer: Observer, say: Say, outer: Outer
) -> Endpoint | str | Tunnelled:
    """Whose wire it comes out of; or the host's interface; or how it leaves the host."""
    ports = {p.name: p for p in observer.switch_ports()}
    came = ports[frame.port]
    src = frame.mac_src or (frame.nic.mac if frame.nic else "")
    dst = frame.mac_dst or _resolved(frame, observer)
    where = f"Open vSwitch {frame.bridge}"
    _watched(came, where, say)
    header = _header(ends, ask, src, dst, frame.came if frame.any_key else None)
    if not dst:  # unresolved: the ARP request is the frame to follow
        own = ends.src if frame.nic is None else _own(frame, ends, observer)
        header = replace(
            header, proto="arp", src=own, dst=frame.near, mac_dst=EVERYBODY, sport=0, dport=0
        )
    found = observer.pipeline(frame.bridge, came.number, header)
    _report(found, frame, dst, where, say)
    if not dst and found.answer:
        say(where, "switch", f"the switch answers: {frame.near} is at {found.answer}")
        return switch(replace(frame, mac_dst=found.answer), ends, ask, observer, say, outer)
    if found.logical is not None:
        logical.follow(found, where, observer, say)
    if found.unknown:
        raise Stop("ovs-unknown", f"{where} does what is not followed: {', '.join(found.unknown)}")
    return _outcome(frame, found, (src, dst), observer, say, outer)


def _own(frame: Frame, ends: Ends, observer: Observer) -> IPv4Address:
    """Return the source address of an ARP request on the bridge."""
    if frame.port not in _own_ports(frame.bridge, observer):
        return ends.src
    return observer.route(HOST, frame.near).source or ends.src


def _header(ends: Ends, ask: Ask, src: str, dst: str, tunnel: Tunnel | None) -> Header:
    echo = ECHO_REPLY if ask.answer else ECHO_REQUEST
    return Header(
        proto=ask.proto,
        src=ends.src,
        dst=ends.dst,
        mac_src=src,
        mac_dst=dst,
        sport=ends.sport[0],
        dport=echo if ask.proto == "icmp" else ends.dport[0],
        tunnel=tunnel.key if tunnel else 0,
        option=tunnel.option if tunnel else 0,
        answer=ask.answer,
    )


def _resolved(frame: Frame, observer: Observer) -> str:
    """The MAC address of the next hop: as the host has it in mind, or whose it is on this host."""
    host, ours = observer.space(HOST), _own_ports(frame.bridge, observer)
    if frame.port in ours and (mac := host.neighbours.get((frame.port, frame.near))):
        return mac
    own = host.facts.local.get(frame.near)
    if own is not None and own.name in ours:
        return host.nics[own.name].mac
    found = _at(frame.bridge, lambda e, _: e.address == frame.near, observer)
    return _mac(found, observer) if found else ""


def _at(bridge: str, fits: Callable[[Endpoint, str], bool], observer: Observer) -> Endpoint | None:
    """The endpoint with its wire in this bridge that fits, by itself or its port."""
    ports = {p.name for p in observer.switch_ports() if p.bridge == bridge}
    for e in observer.endpoints():
        nic = observer.space(e.space).nics.get(e.ifname)
        if nic is not None and nic.peer in ports and fits(e, nic.peer):
            return e
    return None


def _own_ports(bridge: str, observer: Observer) -> set[str]:
    """The host's own interfaces on a bridge: the one of its name, and what is internal there."""
    ports = {p.name for p in observer.switch_ports() if p.bridge == bridge and p.kind == INTERNAL}
    return {bridge, *ports}.intersection(observer.space(HOST).nics)


def _wires(observer: Observer) -> set[str]:
    """The host's ends of the wires of all containers."""
    nics = (observer.space(e.space).nics.get(e.ifname) for e in observer.endpoints())
    return {nic.peer for nic in nics if nic is not None and nic.peer}


def _mac(e: Endpoint, observer: Observer) -> str:
    return observer.space(e.space).nics[e.ifname].mac


def _report(found: Pipeline, frame: Frame, dst: str, where: str, say: Say) -> None:
    what = f"a frame for {dst}" if dst else f"the ARP question for {frame.near}"
    say(where, "switch", f"{what}, in by {frame.port}")
    for rule in found.rules:
        say(where, "flow", rule)
    if found.notes:
        say(where, "flow", "; ".join(found.notes))
    out = ", ".join(o.port or f"tunnel to {o.remote}" for o in found.outputs) or "nowhere"
    say(where, "switch", f"goes to {out}")


def _outcome(
    frame: Frame, found: Pipeline, macs: tuple[str, str], observer: Observer, say: Say,
    outer: Outer,
) -> Endpoint | str | Tunnelled:  # fmt: skip
    dst = macs[1]
    where = f"Open vSwitch {frame.bridge}"
    outputs = [o.port for o in found.outputs if o.port]
    host = observer.space(HOST)
    ours = _own_ports(frame.bridge, observer)
    own = next((p for p in outputs if p in ours and dst == host.nics[p].mac), None)
    if own is not None:
        return own
    inside = _at(
        frame.bridge, lambda e, port: port in outputs and _mac(e, observer) == dst, observer
    )
    if inside is not None:
        return inside
    remotes = [o for o in found.outputs if o.remote is not None]
    if remotes:
        return _tunnelled(frame, remotes, macs, observer, say, outer)
    if device := next(iter(switch_device.devices(outputs, host)), ""):
        tunnels, doubt = switch_device.leaving(device, dst, observer, say)
        return Tunnelled(_left(frame, macs, tunnels), [doubt])
    known = {*ours, *_wires(observer)}
    strange = [p for p in outputs if p not in known]
    if strange:
        raise Stop("beyond", f"{where} sends it out by {', '.join(strange)}: who is there, "
                   "is not known")  # fmt: skip
    if not outputs and dst:
        last = found.rules[-1] if found.rules else "no flow"
        if ACCESS.search(last):
            fix = "netkit fw ls  # and remove it: netkit fw rm RULE"
            raise Stop("access-rule", f"{where} drops it by a rule of netkit fw: {last}", fix)
        raise Stop("ovs-drop", f"{where} drops it: {last}", advice.flow(frame.bridge, last))
    if not dst:
        raise Stop("no-neighbour", f"no host on {frame.bridge} has address {frame.near}")
    raise Stop("wrong-mac", f"no interface on {frame.bridge} has the MAC address {dst}",
               f"ip neigh del {frame.near} dev {frame.bridge}")  # fmt: skip


def _tunnelled(
    frame: Frame, outputs: Iterable[Output], macs: tuple[str, str], observer: Observer, say: Say,
    outer: Outer,
) -> Tunnelled:  # fmt: skip
    tunnels: list[Tunnel] = []
    doubts: list[Doubt] = []
    dead: list[Stop] = []
    for o in outputs:
        fit = [p for p in observer.switch_ports()
               if (p.bridge, p.remote) == (frame.bridge, o.remote)
               and (p.any_key or p.key == o.key)]  # fmt: skip
        port = min(fit, key=lambda p: p.any_key, default=None)
        if port is None or port.remote is None:
            words = f"{frame.bridge} has no tunnel to {o.remote} with key {o.key}"
            raise Stop("ovs-unknown", words)
        try:
            local = _watched(port, f"tunnel {port.name}", say) or _local(port, observer)
        except Stop as s:
            dead.append(s)
            continue
        tunnel = Tunnel(
            kind=port.kind, remote=str(port.remote), local=str(local), key=o.key, option=o.option
        )
        tunnels.append(tunnel)
        if port.state or not underlay.leaving(tunnel, o, observer, outer):
            doubts += doubts_of(port)
    if not tunnels:
        raise dead[0]
    return Tunnelled(_left(frame, macs, tunnels), doubts)


def doubts_of(port: SwitchPort) -> list[Doubt]:
    """What is not known for sure of a tunnel that is not known to be dead."""
    tunnel = f"{port.kind} {port.name}"
    if not port.state:
        return [Doubt("tunnel-unwatched", f"nothing watches {tunnel}: no BFD")]
    if port.beginning:
        words = f"{tunnel} with {port.remote} was made or changed seconds ago, and did not come up"
        return [Doubt("tunnel-beginning", f"{words} yet: BFD state {port.state}, ask again")]
    if port.state == HALF:
        words = f"{port.remote} reaches {tunnel}, but does not receive us: BFD state {HALF}"
        return [Doubt("tunnel-unwatched", words)]
    return []


def _left(frame: Frame, macs: tuple[str, str], tunnels: Iterable[Tunnel]) -> Left:
    src, dst = macs
    return Left(
        dev=frame.bridge, near=str(frame.near), mac_src=src, mac_dst=dst, tunnels=tuple(tunnels)
    )


def _watched(port: SwitchPort, where: str, say: Say) -> IPv4Address | None:
    """Return a tunnel's own local address; Stop if its far end does not respond."""
    if port.remote is None:
        return None
    state = f"BFD {port.state}" if port.state else "no BFD"
    key = "any key" if port.any_key else f"key {port.key}"
    say(where, "tunnel", f"{port.kind} with {port.remote}, {key}, {state}")
    if port.state not in {"", "up", HALF} and not port.beginning:
        why = f" ({port.diagnostic})" if port.diagnostic else ""
        raise Stop(
            "tunnel-down",
            f"the far end of {port.kind} {port.name}, {port.remote}, does not respond: BFD state "
            f"{port.state}{why}",
            f"netkit net trace host {port.remote} icmp  # is it up, and has it a tunnel to here?",
        )
    return port.local


def _local(port: SwitchPort, observer: Observer) -> IPv4Address:
    assert port.remote is not None
    way = observer.route(HOST, port.remote)
    if not way.dev or way.source is None:
        raise Stop(
            "tunnel-down",
            f"the host has no route to {port.remote}, where the tunnel {port.name} ends",
            f"ip route add {port.remote}/32 via GATEWAY",
        )
    return way.source
