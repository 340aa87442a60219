"""Follow what a tunnel of Open vSwitch sends through the rules of both hosts.  Pure.

    datapath of the kernel's     the host sends it itself
    in user space, netkit's way  by an interface of the host, which forwards it: the gateway of the
                                 tunnel's route is the host (plugins/ovs/underlay.py)
    in user space, by a bridge   past the host's rules, to a NIC of the bridge's: not followed
      with a NIC

For tunnels that nothing probes: then the network between two hosts is taken to carry what one
sends to the other, as for wires.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from netkit.diagnose.explain.packet import EPHEMERAL
from netkit.diagnose.trace.facts import HOST, Observer, Output
from netkit.diagnose.trace.leg import Tunnel
from netkit.diagnose.trace.overlay import Outer
from netkit.diagnose.trace.overlay import outer as outer_packet
from netkit.diagnose.trace.stops import usable

PORTS = {"geneve": 6081, "vxlan": 4789}  # UDP; RFC 8926, RFC 7348


def leaving(tunnel: Tunnel, out: Output, observer: Observer, outer: Outer) -> bool:
    """Whether it could be followed out of this host.  Stop: it does not get out."""
    port, remote = PORTS.get(tunnel.kind), IPv4Address(tunnel.remote)
    if port is None:
        return False
    if out.source is None:
        packet = outer_packet(IPv4Address(tunnel.local), remote, EPHEMERAL, port, known=False)
        outer(packet, "")
        return True
    own = observer.space(HOST).facts.local.get(out.gateway) if out.gateway else None
    if own is None:
        return False
    outer(outer_packet(out.source, remote, EPHEMERAL, port, known=False), own.name)
    return True


def arriving(tunnel: Tunnel, observer: Observer, outer: Outer) -> None:
    """Stop: it does not get to Open vSwitch of this host."""
    port, remote = PORTS.get(tunnel.kind), IPv4Address(tunnel.remote)
    host = observer.space(HOST)
    own = host.facts.local.get(remote)
    if port is None or own is None:
        return
    usable(host, own.name)
    outer(outer_packet(IPv4Address(tunnel.local), remote, EPHEMERAL, port, known=False), own.name)
