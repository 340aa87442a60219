"""Find the cause of a walk's end in a namespace, from both ends.  Pure."""

from __future__ import annotations

from ipaddress import IPv4Address

from netkit.diagnose.explain.deciding import decider
from netkit.diagnose.explain.hooks import Trail
from netkit.diagnose.explain.journey import End, Party
from netkit.diagnose.explain.packet import Ends, Packet
from netkit.diagnose.explain.remedy import remedy
from netkit.diagnose.trace import advice
from netkit.diagnose.trace.facts import HOST, Observer, Space
from netkit.diagnose.trace.leg import Cause, Stop
from netkit.diagnose.trace.stops import ended


def ended_there(
    space: Space, party: Party, end: End, packet: Packet, dst: IPv4Address, observer: Observer
) -> Stop:
    """As stops.ended, with the fix that `packet`, as it came, and `dst` call for."""
    stop = ended(space, party, end, observer, packet.ends.dst)
    if stop.code == "rp-filter":
        found = space.facts.owner_of(packet.ends.src)
        iface = party.iface or (found.place.bridge if found else "")
        stop.fix = advice.reverse_path(space, packet.ends.src, iface)
    elif stop.code == "no-route" and space.key == HOST:
        stop.fix = advice.route(space, dst, observer)
    elif stop.code == "icc-off":
        target = space.facts.owner_of(packet.ends.dst)
        fix = advice.accept(space.facts, packet, target.container if target else None)
        stop.fix = f"{fix}  # or --link, or a network with icc"
    return stop


def untracked(space: Space, trail: Trail) -> Cause | None:
    """A rule on an answer's way because of which its addresses are not put back, and its fix."""
    for p in trail.passed:
        if p.what == "untrack" and (rule := decider(p, space.facts)) is not None:
            words = f": {rule.place}: {rule.words}: {rule.text}"
            return Cause(words, advice.inside(space) + remedy(rule))
    return None


def meant(space: Space, proto: str, ends: Ends, observer: Observer) -> str:
    """Of a port of the host that a container was asked for: which one of its own that is."""
    name = space.name.removeprefix("container ")
    for p in observer.space(HOST).facts.ports:
        if (p.container, p.proto, (p.host_port, p.host_port)) == (name, proto, ends.dport):
            return f"as port {p.host_port} of the host its port {p.container_port} is published"
    return ""
