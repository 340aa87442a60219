"""An overlay of hosts on a packet's way: what going out of one and into one have in common.  Pure.

    bridge --its FDB--> VXLAN device --its FDB--> UDP 6784 of another host          (fastdp)
                   +-> TAP device --the overlay's process--> UDP 6783 of that host  (sleeve)
                                                        +--> by way of a third one  (relay)

The kernel's tables decide; the overlay's process says why they are as they are, and where what
leaves by the TAP device goes.  The outer packet is followed through the rules of both hosts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from netkit.diagnose.explain.packet import Ends, Flow, Packet, Span
from netkit.diagnose.trace.facts import Located, Observer, OverlayNetwork, Space
from netkit.diagnose.trace.leg import Stop
from netkit.diagnose.trace.stops import usable
from netkit.errors import KernelError, NotFound

FASTDP, SLEEVE, RELAY = "fastdp", "sleeve", "relay"
KINDS = frozenset({FASTDP, SLEEVE, RELAY})
SENDERS = "ip netkit-weave"  # the table that checks who sends by VXLAN
LAUNCH = "netkit weave launch"
STATUS = "netkit weave status connections"
VXLAN = 20 + 8 + 8 + 14  # bytes around a packet: IPv4, UDP, VXLAN, Ethernet (RFC 7348)
Outer = Callable[[Packet, str], None]
"""Follow an outer packet through the host's rules, which comes by an interface, or is its own where
that is "".  Stop: it does not get through."""


def network_of(bridge: str, observer: Observer) -> OverlayNetwork | None:
    return next((n for n in observer.overlays() if n.ports.bridge == bridge), None)


def located(vni: int, mac: str, address: IPv4Address, observer: Observer) -> Located | None:
    """None: there is no process to ask."""
    try:
        return observer.located(vni, mac=mac, address=address)
    except (NotFound, KernelError):  # it does not run, or does not answer
        return None


def attached(host: Space, tap: str, found: Located | None) -> None:
    """Stop: no process reads what leaves by the TAP device."""
    nic = host.nics.get(tap)
    if nic is None:
        raise Stop("link-down", f"{host.name} has no interface {tap}")
    if found is None or not nic.carrier:
        words = f"it leaves by {tap}, which no process of the weave overlay reads on {host.name}"
        raise Stop("overlay-off", words, LAUNCH)
    usable(host, tap)


def outer(src: IPv4Address, dst: IPv4Address, sport: Span, port: int, *, known: bool) -> Packet:
    """An outer packet; `known`: of a session, which lives by answers, so of a flow with some."""
    ends = Ends(src=src, dst=dst, sport=sport, dport=(port, port))
    flow = Flow(original=ends, sent=ends)
    if known:
        flow = replace(flow, state="established", settled=True)
    return Packet(ends=ends, flow=flow, proto="udp")
