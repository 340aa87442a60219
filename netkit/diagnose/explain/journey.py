"""Follow one packet through the host: bridge, hooks, routing, bridge.  Pure.

    container --port--> bridge --(to the host's MAC)--> PREROUTING -> route -> INPUT -> host
        |                 |                                             |
        |                 +--(to a neighbour's MAC)--> [FORWARD] ->     +-> FORWARD -> POSTROUTING
        |                     port    br_netfilter only      port             |
        v                                                                     v
    itself                            host -> OUTPUT -> (route again) -> POSTROUTING -> out

With br_netfilter, bridged frames see PREROUTING, FORWARD and POSTROUTING; a frame translated to
another port of the same bridge stays on it.  Sources: net/bridge/br_netfilter_hooks.c,
net/bridge/br_forward.c, net/ipv4/{ip_input,route,fib_frontend,ip_forward,ip_output}.c.

Limits: a container's own rules and its sysctls are not looked at; multicast is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Literal

from netkit.diagnose.explain.facts import (
    LO,
    LOOPBACK,
    Container,
    Facts,
    Interface,
    Path,
    Place,
    best,
)
from netkit.diagnose.explain.hooks import Passed, Stopped, Trail, through
from netkit.diagnose.explain.packet import Packet
from netkit.diagnose.explain.ruleset import Rule

HOST, OUTSIDE = "host", "outside"
Reason = Literal[
    "arrived", "rule", "isolated", "no-hairpin", "no-route", "no-forwarding", "martian",
    "rp-filter", "no-neighbour", "down", "guarded", "not-translated",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A sender or receiver.  Of the outside: by which interface (and port of that, if it is a
    bridge), and next to which neighbour."""

    kind: Literal["host", "container", "outside"]
    name: str = ""
    iface: str = ""
    port: str = ""
    gateway: IPv4Address | None = None
    forced: bool = False  # a container that hands its packets to the host, come what may
    behind: str = ""  # the container that Open vSwitch takes it to, as far as is known here
    overlay: bool = False  # it goes on to another host over an overlay

    def __str__(self) -> str:
        match self.kind:
            case "host":
                return "the host"
            case "container":
                return f"container {self.name}"
        if self.overlay:
            return f"the overlay's other hosts by {self.iface} (the rest of the way: net trace)"
        if self.behind:
            by = f"{self.iface} of Open vSwitch (its flows: net trace)"
            return f"container {self.behind} by {by}"
        return f"the outside by {self.iface}"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a journey ended.  `packet` is what arrived; `stopped` the rule that ended it."""

    reason: Reason
    words: str = ""  # of an end that no rule made: why
    setting: str = ""  # of sysctl, with which it would go on
    party: Party | None = None
    packet: Packet | None = None
    stopped: Passed | None = None
    rejected: bool = False
    at: Packet | None = None  # as it was at the rule that stopped it


class Ended(Exception):
    def __init__(self, reason: Reason, words: str, setting: str = "") -> None:
        super().__init__(words)
        self.reason: Reason = reason
        self.setting = setting


@dataclass(frozen=True, slots=True)
class Journey:
    facts: Facts
    trail: Trail

    def go(self, party: Party, packet: Packet) -> End:
        """Follow a packet from its sender to where it ends.  Raises hooks.Undecided."""
        try:
            match party.kind:
                case "host":
                    return self._from_host(packet)
                case "container" if party.forced and self.facts.containers[party.name].places:
                    return self._forced(self.facts.containers[party.name].places[0], packet)
                case "container":
                    return self._from_container(party.name, packet)
            return self._from_outside(packet, party.iface, party.port)
        except Stopped as s:
            return End(reason="rule", stopped=s.passed, rejected=s.kind == "reject", at=s.packet)
        except Ended as e:
            return End(reason=e.reason, words=str(e), setting=e.setting)

    # -- where packets begin -----------------------------------------------------

    def _from_host(self, packet: Packet) -> End:
        path = self._route(packet.ends.dst)
        packet = replace(packet, oif=path.dev)
        old = packet.ends.dst
        packet = through(self.trail, "output", packet)
        if packet.ends.dst != old:  # ip_route_me_harder: translated, so routed again
            path = self._route(packet.ends.dst)
            packet = replace(packet, oif=path.dev)
            interface = self._interface(path.dev)
            if packet.ends.src in LOOPBACK and path.dev != LO and not interface.route_localnet:
                raise Ended("martian", f"{path.dev} does not send from {packet.ends.src}: "
                            "route_localnet is off", _localnet(path.dev))  # fmt: skip
        return self._postrouting(packet, path)

    def _from_container(self, name: str, packet: Packet) -> End:
        container = self.facts.containers[name]
        dst = packet.ends.dst
        if container.has(dst) or dst in LOOPBACK:
            return self._arrived(Party(kind="container", name=name), packet)
        path = best(container.routes, dst)
        place = container.place(path.dev) if path else None
        if path is None or place is None:
            raise Ended("no-route", f"container {name} has no route to {dst}")
        bridge = self._interface(place.bridge)
        self._layer2()
        packet = self._entered(place, packet)
        near = path.gateway or dst
        if self.facts.is_local(near) or self._answered_for(bridge, place, near):
            if self._interface(place.port).redirected:  # a BridgeRedirect: no frame to translate
                packet = replace(packet, port="")
            return self._ingress(packet, bridge.name)
        if bridge.filtered:
            packet = through(self.trail, "prerouting", replace(packet, iif=bridge.name))
            if packet.ends.dst != dst:
                return self._routed(packet, bridge)
        return self._bridged(packet, bridge, near)

    def _forced(self, place: Place, packet: Packet) -> End:
        return self._ingress(self._entered(place, packet), place.bridge)

    def _answered_for(self, bridge: Interface, place: Place, near: IPv4Address) -> bool:
        """Whether the host answers ARP for an isolated neighbour, which never gets the request."""
        found = self.facts.neighbour(bridge.name, near)
        ports = [self._interface(p) for p in (place.port, found.place.port if found else "") if p]
        apart = len(ports) == 2 and all(p.isolated for p in ports)
        return apart and bridge.proxy_arp_pvlan and bridge.forwarding

    def _from_outside(self, packet: Packet, iface: str, port: str) -> End:
        """On a bridge that a real network is plugged into, frames may pass us by."""
        bridge, dst = self._interface(iface), packet.ends.dst
        strangers = self.facts.strangers(iface) if bridge.bridge else []
        if not strangers or self.facts.is_local(dst) or not self.facts.neighbour(iface, dst):
            return self._ingress(packet, iface)
        packet = replace(packet, port=port or strangers[0])
        if bridge.filtered:
            packet = through(self.trail, "prerouting", replace(packet, iif=iface))
            if packet.ends.dst != dst:
                return self._routed(packet, bridge)
        return self._bridged(packet, bridge, dst)

    def _ingress(self, packet: Packet, iif: str) -> End:
        """A packet for the host's own MAC address."""
        packet = replace(packet, iif=iif)
        return self._routed(through(self.trail, "prerouting", packet), self._interface(iif))

    # -- the bridge ----------------------------------------------------------------

    def _bridged(self, packet: Packet, bridge: Interface, near: IPv4Address) -> End:
        """Follow a frame from one port of a bridge to the owner of the address `near`."""
        found = self.facts.neighbour(bridge.name, near)
        strangers = self.facts.strangers(bridge.name)
        if found is None and not strangers:
            raise Ended("no-neighbour", f"no host on {bridge.name} has address {near}")
        port = self._interface(found.place.port if found else strangers[0])
        came = self._interface(packet.port)
        if came.isolated and port.isolated:
            raise Ended("isolated", f"ports {came.name} and {port.name} of {bridge.name} are "
                        "isolated from each other (icc=false)")  # fmt: skip
        if came.name == port.name and not came.hairpin:
            raise Ended("no-hairpin", f"{bridge.name} does not send a frame back to {port.name}")
        if bridge.filtered:
            packet = replace(packet, iif=bridge.name, oif=bridge.name)
            packet = through(self.trail, "forward", packet)
            packet = through(self.trail, "postrouting", replace(packet, iif=""))
        if found is None:
            party = self._beyond(bridge.name, near)
            return self._arrived(party, packet)
        return self._handed(found.container, found.place, packet)

    # -- routing -------------------------------------------------------------------

    def _routed(self, packet: Packet, iif: Interface) -> End:
        src, dst = packet.ends.src, packet.ends.dst
        if not iif.route_localnet and (src in LOOPBACK or dst in LOOPBACK) and iif.name != LO:
            bad = src if src in LOOPBACK else dst
            raise Ended("martian", f"{bad} does not belong on {iif.name} (route_localnet is off)",
                        _localnet(iif.name))  # fmt: skip
        if self.facts.is_local(dst):
            self._check_source(src, iif)
            return self._to_host(packet)
        if self._stays(packet, iif):
            return self._bridged(packet, iif, dst)
        self._check_source(src, iif)
        if not iif.forwarding:
            raise Ended("no-forwarding", f"the host does not forward what comes by {iif.name} "
                        "(ip_forward is off)")  # fmt: skip
        if self.facts.address_type(dst) != "unicast":
            raise Ended("no-route", f"{dst} is not forwarded: it is no unicast address")
        path = self._route(dst)
        packet = through(self.trail, "forward", replace(packet, oif=path.dev))
        return self._postrouting(replace(packet, iif=""), path)

    def _stays(self, packet: Packet, iif: Interface) -> bool:
        """Whether br_netfilter translated the frame to another port of the same bridge."""
        if not (iif.bridge and iif.filtered and packet.port):
            return False
        flow = packet.flow
        before = flow.sent.turned.dst if flow.answer else flow.original.dst
        path = self.facts.route(packet.ends.dst)
        return packet.ends.dst != before and path is not None and path.dev == iif.name

    def _check_source(self, src: IPv4Address, iif: Interface) -> None:
        """As fib_validate_source: drop the host's own addresses as sources; rp_filter."""
        if iif.name == LO:
            return
        if src in self.facts.local and not iif.accept_local:
            raise Ended("martian", f"{src} is the host's own and cannot come by {iif.name}")
        if iif.rp_filter:
            path = self.facts.route(src)
            if path is None or not path.dev or (iif.rp_filter == 1 and path.dev != iif.name):
                raise Ended("rp-filter", f"answers to {src} would not go by {iif.name} (rp_filter)")

    def _layer2(self) -> None:
        if self.facts.layer2:
            self._must_guess(self.facts.layer2, "rules on frames are not evaluated")

    def _entered(self, place: Place, packet: Packet) -> Packet:
        """Enter by a port that may be guarded: it accepts a container's own addresses only."""
        packet = replace(packet, port=place.port, mac=packet.mac or place.mac)
        guard, e = self.facts.guards.get(place.port), packet.ends
        dhcp = packet.proto == "udp" and (e.sport[0] <= 67 <= e.sport[1] or e.dport == (68, 68))
        if guard is not None and (who := guard.stops(packet.mac, str(e.src), dhcp=dhcp)):
            raise Ended("guarded", f"port {place.port} does not take this from {who}: what is "
                        "sent there must be from its own address, and no DHCP")  # fmt: skip
        return packet

    def _must_guess(self, what: str, why: str) -> None:
        rule = Rule(tool="", table="", chain="", number=0, text=what)
        if not self.trail.guess(rule, why):
            raise Stopped("drop", Passed(hook="", what="drop", rule=rule))

    def _route(self, dst: IPv4Address) -> Path:
        if self.facts.policy_routing and not self.facts.is_local(dst):
            self._must_guess("ip rule", "policy routing is not evaluated")
        path = self.facts.route(dst)
        if path is None or not path.dev:
            raise Ended("no-route", f"the host has no route to {dst}")
        return path

    def _postrouting(self, packet: Packet, path: Path) -> End:
        dst = packet.ends.dst
        packet = through(self.trail, "postrouting", packet)
        if path.dev == LO:
            return self._looped(packet)
        interface, near = self._interface(path.dev), path.gateway or dst
        if not interface.up:
            raise Ended("down", f"{interface.name} is down")
        found = self.facts.neighbour(interface.name, near)
        if found is not None:
            return self._handed(found.container, found.place, packet)
        if interface.bridge and not self.facts.strangers(interface.name):
            raise Ended("no-neighbour", f"no host on {interface.name} has address {near}")
        return self._arrived(self._beyond(interface.name, path.gateway, near), packet)

    def _beyond(
        self, iface: str, gateway: IPv4Address | None, near: IPv4Address | None = None
    ) -> Party:
        return Party(
            kind="outside", iface=iface, gateway=gateway, overlay=iface in self.facts.overlays,
            behind=self.facts.switched(near) if near else "",
        )  # fmt: skip

    # -- where packets end -----------------------------------------------------------

    def _looped(self, packet: Packet) -> End:
        """Through lo: translation is settled, connection tracking knows the flow."""
        flow = replace(packet.flow, settled=True)
        packet = replace(packet, flow=flow, iif=LO, oif="")
        packet = through(self.trail, "prerouting", packet)
        return self._to_host(packet)

    def _to_host(self, packet: Packet) -> End:
        packet = through(self.trail, "input", packet)
        return self._arrived(Party(kind="host"), packet)

    def _handed(self, container: Container, place: Place, packet: Packet) -> End:
        """What comes out of the far end of a wire."""
        src, dst = packet.ends.src, packet.ends.dst
        self._layer2()
        if not container.has(dst):
            party = Party(kind="outside", iface=place.port, gateway=place.address.ip)
            return self._arrived(party, packet)
        if src in LOOPBACK or container.has(src):
            raise Ended("martian", f"container {container.name} takes {src} for itself")
        return self._arrived(Party(kind="container", name=container.name), packet)

    def _arrived(self, party: Party, packet: Packet) -> End:
        return End(reason="arrived", party=party, packet=packet)

    def _interface(self, name: str) -> Interface:
        found = self.facts.interfaces.get(name)
        if found is None:
            raise Ended("down", f"there is no interface {name}")
        return found


def _localnet(iface: str) -> str:
    return f"net/ipv4/conf/{iface}/route_localnet=1"
