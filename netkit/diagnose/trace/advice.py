"""Compose the `fix:` of a trace: the command that changes its verdict.  Pure.

A fix is a command as it may be typed on the host; after a # is an explanation.  Where there is no
fix, no command of netkit's and none that deletes another tool's rule would help.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from ipaddress import IPv4Address

from netkit.diagnose.explain.deciding import Decider, decider, led_away
from netkit.diagnose.explain.diverted import Diverted
from netkit.diagnose.explain.facts import Container, Facts
from netkit.diagnose.explain.packet import Packet
from netkit.diagnose.explain.remedy import remedy
from netkit.diagnose.trace.facts import HOST, Nic, Observer, Space
from netkit.diagnose.trace.leg import Cause
from netkit.model.openvswitch import COOKIE
from netkit.model.ovn import INTEGRATION

REPAIR = "netkit fw repair"
FLOW = re.compile(
    r"(?P<bridge>\S+) table (?P<table>\d+): (?:(?P<match>\S+), )?priority (?P<priority>\d+)"
    r"(?:, cookie (?P<cookie>\S+))?"
)


def inside(space: Space) -> str:
    """What a command begins with that is to run in the namespace."""
    return f"nsenter --net={space.path} " if space.key != HOST and space.path else ""


def of_rule(code: str, rule: Decider, space: Space, at: Packet | None, observer: Observer) -> str:
    """Of a packet that `rule` stopped; `at` as it was there."""
    found = space.facts.owner_of(at.ends.dst) if at is not None else None
    target = found.container if found else None
    match code:
        case "access-rule":
            return f"netkit fw rm {rule.access[:12] or 'RULE  # one of netkit fw ls'}"
        case "icc-off":
            return accept(space.facts, at, target) + "  # or --link, or a network with icc"
        case "not-published":
            return _opened(space.facts, at, target, observer)
        case "internal-network":
            return _connected(space.facts, at, target)
    if rule.ours:
        return REPAIR if observer.firewall().drift else ""
    return inside(space) + remedy(rule, at)


def accept(facts: Facts, at: Packet | None, target: Container | None) -> str:
    """The access rule that lets this through to a container."""
    if at is None or target is None:
        return "netkit fw accept --src SOURCE --to CONTAINER"
    sender = facts.owner_of(at.ends.src)
    source = sender.container.name if sender else str(at.ends.src)
    port = "" if at.proto == "icmp" else f" --port {at.ends.dport[0]}/{at.proto}"
    return f"netkit fw accept --src {source} --to {target.name}{port}"


def _opened(facts: Facts, at: Packet | None, target: Container | None, observer: Observer) -> str:
    fix = accept(facts, at, target)
    if at is None or target is None:
        return fix
    for p in facts.ports:
        if (p.container, p.proto, p.container_port) == (
            target.name, at.proto, at.ends.dport[0],
        ):  # fmt: skip
            if observer.firewall().drift:
                return REPAIR
            return f"{fix}  # or ask {p.host_ip}:{p.host_port}, where it is published"
    return f"{fix}  # or publish the port with -p"


def _connected(facts: Facts, at: Packet | None, target: Container | None) -> str:
    """A network that both have, for containers kept apart by an internal one."""
    sender = facts.owner_of(at.ends.src) if at is not None else None
    if sender is None or target is None:
        who = (sender.container if sender else target) or None
        name = who.name if who else "CONTAINER"
        return f"netkit network connect NETWORK {name}  # one that is not internal"
    shared = sender.place.network
    return f"netkit network connect {shlex.quote(shared)} {target.name}"


def untranslated(
    away: Diverted, space: Space, packet: Packet, *, sender: str, observer: Observer
) -> Cause:
    """Words and fix for a packet that does not go to the container its port is published for.

    `sender` is the namespace it comes from, "" from outside.
    """
    words = led_away(away, space.facts)
    if away.by is not None:
        rule = decider(away.by, space.facts)
        return Cause(words, inside(space) + remedy(rule) if rule else "")
    firewall = observer.firewall()
    if firewall.driver == "none":
        fix = _by_hand(away, packet, own=sender == HOST)
        return Cause(f"{words}: netkit writes no rules (--iptables=false)", fix)
    if firewall.drift:
        return Cause(f"{words}: netkit fw check finds {firewall.drift} steps to repair", REPAIR)
    return Cause(f"{words}, and netkit has none for this source: netkit fw check finds no drift")


def _by_hand(away: Diverted, packet: Packet, *, own: bool) -> str:
    p = away.port
    if p.address is None:
        return ""
    to = f"{p.address}:{p.container_port}"
    chain, dst = ("OUTPUT" if own else "PREROUTING"), packet.ends.dst
    return (
        f"iptables -t nat -A {chain} -d {dst} -p {p.proto} --dport {p.host_port}"
        f" -j DNAT --to-destination {to}"
    )


def route(space: Space, dst: IPv4Address, observer: Observer) -> str:
    """For a namespace without a route to `dst`."""
    begin = f"{inside(space)}ip route add "
    if space.key == HOST:
        return f"{begin}{dst}/32 via GATEWAY"
    host = observer.space(HOST).facts
    for c in host.containers.values():
        for place in c.places if c.id == space.key else ():
            own = host.interfaces[place.bridge].addresses
            gateway = next((a.ip for a in own if place.address.ip in a.network), None)
            if gateway is not None:
                return f"{begin}default via {gateway}"
    name = space.name.removeprefix("container ")
    return f"netkit network connect NETWORK {name}  # one with a way to {dst}"


def own_address(space: Space, nic: Nic, macs: Collection[str]) -> str:
    """For a container that sends from another MAC address than its port at the host lets in."""
    if macs:
        return f"{inside(space)}ip link set dev {nic.name} address {min(macs)}"
    return f"bridge fdb replace {nic.mac} dev {nic.peer} master static"


def flow(bridge: str, entry: str) -> str:
    """For a frame that this flow of a switch drops, as ofproto.pipeline has it."""
    found = FLOW.match(entry)
    if found is not None and found["bridge"] == INTEGRATION:
        # ovn-controller's, of an ACL: a deleted one comes back, or lets pass what a rule drops.
        return f"netkit fw ls  # a rule's ACL, if it is netkit's: {bridge}'s flows are OVN's"
    if found is None or int(found["cookie"] or "0", 16) >> 56 == COOKIE >> 56:
        return f"ovs-ofctl dump-flows {bridge}"
    match = ",".join(filter(None, (found["match"], f"priority={found['priority']}")))
    return f"ovs-ofctl --strict del-flows {found['bridge']} 'table={found['table']},{match}'"


def reverse_path(space: Space, src: IPv4Address, iface: str) -> str:
    """For a source to which the way back is another, or none."""
    if space.facts.route(src) is None:
        return f"{inside(space)}ip route add {src}/32 dev {iface}"
    return f"{inside(space)}sysctl -w net/ipv4/conf/{iface}/rp_filter=2"
