"""Follow a packet through one host, namespace by namespace, until it ends or leaves.  Pure.

    process -> rules, routes of its namespace -> wire -> bridge or Open vSwitch -> the host's rules
      -> wire -> rules of the target's namespace -> socket

Each namespace has connection tracking of its own, and so a flow of its own.  What happens inside
one is repeated by `netkit.diagnose.explain`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address

from netkit.diagnose.explain.diverted import Diverted, diverted
from netkit.diagnose.explain.hooks import Trail
from netkit.diagnose.explain.journey import Journey, Party
from netkit.diagnose.explain.packet import Ends, Packet
from netkit.diagnose.trace import (
    advice,
    causes,
    next_hop,
    overlay,
    overlay_arriving,
    overlay_leaving,
    overlay_rules,
    switching,
    underlay,
)
from netkit.diagnose.trace.begin import begin
from netkit.diagnose.trace.facts import (
    HOST,
    Endpoint,
    Nic,
    Observer,
    OverlayNetwork,
    Space,
    SwitchPort,
)
from netkit.diagnose.trace.flows import tracked
from netkit.diagnose.trace.leg import Ask, Crossed, Doubt, Elsewhere, Left, Leg, Line, Step, Stop
from netkit.diagnose.trace.stops import decisions, fits, received, usable
from netkit.errors import KernelError

# kinds of the host's links that are bridges there
OF_SWITCHES = frozenset({"tap", "tun", "openvswitch"})
MOST_HOPS = 24


class Walk:
    def __init__(self, ask: Ask, observer: Observer, guesses: tuple[bool, ...]) -> None:
        self.ask, self.observer, self.guesses = ask, observer, guesses
        self.asked = self.hops = 0
        self.steps: list[Step] = []
        self.doubts: list[Doubt] = []
        self.flows = {c.space: c for c in ask.flows}
        self.sent: Ends | None = None
        self.origin = ask.space
        self.ends: Ends
        self.away = self.cure = ""  # as in Leg
        self.frame: switching.Frame | None = None  # that a container sent last, on a bridge

    def go(self) -> Leg:
        try:
            if self.ask.came is not None and self.ask.ends is not None:
                self.ends = self.ask.ends.ends
                return self._come(self.ask.came)
            if self.ask.ends is not None:
                self.ends = self.ask.ends.ends
                return self._through(self.observer.space(self.ask.space), Party(kind="host"))
            first = begin(self.ask, self.observer)
            self.ends = self.sent = first.ends
            self.origin = first.space
            if first.space:
                space = self.observer.space(first.space)
                return self._through(space, Party(kind="host"))
            by = f"port {first.port} of {first.dev}" if first.port else first.dev
            self._say("outside", "wire", f"{first.ends.src} comes by {by} of the host")
            return self._into(HOST, first.dev, first.port)
        except Stop as s:
            return self.stopped(s)
        except Elsewhere:
            return Leg(end="elsewhere")

    def stopped(self, s: Stop) -> Leg:
        return self._leg(Leg(end="stopped", code=s.code, words=s.words, fix=s.fix))

    def _leg(self, leg: Leg) -> Leg:
        return replace(
            leg,
            steps=tuple(self.steps),
            origin=self.origin,
            sent=Line.of(self.sent) if self.sent else None,
            ends=Line.of(self.ends) if hasattr(self, "ends") else None,
            flows=tuple(self.flows.values()),
            doubts=tuple(self.doubts),
            away=self.away,
            cure=self.cure,
        )

    def _say(self, where: str, what: str, why: str) -> None:
        self.steps.append(Step(where=where, what=what, why=why))

    # -- within a namespace ----------------------------------------------------------

    def _through(self, space: Space, party: Party, routed: bool = True) -> Leg:
        """From a party of this namespace to where its rules and, if `routed`, routes lead."""
        self.hops += 1
        if self.hops > MOST_HOPS:
            raise Stop("too-long", f"after {MOST_HOPS} namespaces and switches it is still going")
        if party.kind == "host":
            next_hop.routed(space, self.ends.dst, self.observer, self._say)
        packet = tracked(self.ends, self.ask, self.flows.get(space.key))
        trail = Trail(space.facts, self.guesses, asked=self.asked)
        asked, end = self.asked, Journey(space.facts, trail).go(party, packet)
        self.asked = trail.asked
        if space.key == HOST and not self.ask.answer:
            away = diverted(party, packet, trail, asked, ended=end.stopped)
            at_host = end.party is not None and end.party.kind == "host"
            if away is not None and (away.by is not None or at_host):
                self._led_away(away, space, packet, party)
        for why in decisions(trail.passed, space):
            self._say(space.name, "rule", why)
        if self.ask.answer:
            self.away, self.cure = causes.untracked(space, trail) or (self.away, self.cure)
        if end.party is None or end.packet is None:
            raise causes.ended_there(space, party, end, packet, self.ends.dst, self.observer)
        self.ends = end.packet.ends
        if not self.ask.answer:
            flow = end.packet.flow
            self.flows[space.key] = Crossed(
                space=space.key, original=Line.of(flow.original), sent=Line.of(flow.sent)
            )
        if routed and party.kind != "host" and end.party.kind != "host":
            next_hop.routed(space, self.ends.dst, self.observer, self._say)
        match end.party.kind:
            case "host":
                return self._arrived(space, party.iface)
            case "container":
                return self._handed(space, end.party.name)
        return self._leave(space, end.party.iface, end.party.gateway or self.ends.dst)

    def _led_away(self, away: Diverted, space: Space, packet: Packet, party: Party) -> None:
        sender = HOST if party.kind == "host" else party.name
        self.away, self.cure = advice.untranslated(
            away, space, packet, sender=sender, observer=self.observer
        )

    # -- between namespaces ----------------------------------------------------------

    def _into(self, key: str, dev: str, port: str = "") -> Leg:
        space = self.observer.space(key)
        for name in (port, dev) if port else (dev,):
            usable(space, name)
        return self._through(space, Party(kind="outside", iface=dev, port=port))

    def _leave(self, space: Space, dev: str, near: IPv4Address) -> Leg:
        nic = usable(space, dev)
        fits(space, nic, self.ask.size)
        if space.key == HOST:
            if (bridge := self._bridge_of(nic)) is not None:
                return self._switched(switching.Frame(bridge=bridge, port=dev, near=near, nic=nic))
            return self._out(space, dev, near)
        host = self.observer.space(HOST)
        if not nic.peer:
            raise Stop("beyond", f"the other end of {dev} of {space.name} is not on this host")
        usable(host, nic.peer)
        self._say(space.name, "link", f"{dev}, its other end is {nic.peer} of the host")
        name = next((c.name for c in host.facts.containers.values() if c.id == space.key), "")
        place = host.facts.containers[name].place(dev) if name else None
        if place is None:
            found = next((p for p in self._plugged() if p.name == nic.peer), None)
            if found is None:
                return self._into(HOST, nic.peer)
            mac = space.neighbours.get((dev, near), "")
            return self._switched(
                switching.Frame(
                    bridge=found.bridge, port=found.name, near=near, nic=nic, mac_dst=mac
                )
            )
        usable(host, place.bridge)
        next_hop.neighbour_right(space, dev, near, place.bridge, self.observer)
        guard = host.facts.guards.get(nic.peer)
        if guard is not None and nic.mac not in guard.macs:
            fix = advice.own_address(space, nic, guard.macs)
            words = f"port {nic.peer} does not take frames from {nic.mac}"
            raise Stop("source-guard", words, fix)
        self.frame = switching.Frame(
            bridge=place.bridge, port=nic.peer, near=near, nic=nic, mac_src=nic.mac,
            mac_dst=space.neighbours.get((dev, near), ""),
        )  # fmt: skip
        routed = host.facts.is_local(near)
        return self._through(host, Party(kind="container", name=name), routed)

    def _handed(self, host: Space, name: str) -> Leg:
        """From the host, or from another port of the bridge, to a container's wire."""
        container = host.facts.containers[name]
        place = next(p for p in container.places if p.address.ip == self.ends.dst)
        next_hop.bridged(container, place, self.ask.size, self.observer, self._say)
        return self._into(container.id, place.ifname)

    def _out(self, host: Space, dev: str, near: IPv4Address) -> Leg:
        """By a wire of the host to another host, or to a container that is the next hop."""
        if (network := overlay.network_of(dev, self.observer)) is not None:
            return self._overlaid(network, near)
        for router, place in host.facts.places:
            if place.port == dev:
                self._say(host.name, "bridge", f"{place.bridge} -> {dev}, to {near}")
                return self._into(router.id, place.ifname)
        for port in host.facts.strangers(dev):
            usable(host, port)
        mac = host.neighbours.get((dev, near), "")
        left = Left(dev=dev, near=str(near), mac_src=host.nics[dev].mac, mac_dst=mac)
        self._say(host.name, "wire", f"leaves by {dev} to {near}" + (f" ({mac})" if mac else ""))
        return self._leg(Leg(end="left", left=left))

    # -- Open vSwitch ------------------------------------------------------------------

    def _plugged(self) -> Iterable[SwitchPort]:
        try:
            return self.observer.switch_ports()
        except KernelError as e:
            raise Stop("ovs-unknown", str(e)) from e

    def _bridge_of(self, nic: Nic) -> str | None:
        """The bridge of Open vSwitch that has this interface of the host's for a port of its own;
        one of its name is one."""
        if nic.kind not in OF_SWITCHES:
            return None
        own = (p for p in self._plugged() if nic.name in {p.bridge, p.name})
        mine = (p.bridge for p in own if nic.name == p.bridge or p.kind == switching.INTERNAL)
        return next(mine, None)

    def _switched(self, frame: switching.Frame) -> Leg:
        self.hops += 1
        try:
            result = switching.switch(
                frame, self.ends, self.ask, self.observer, self._say, self._outer
            )
        except KernelError as e:
            raise Stop("ovs-unknown", str(e)) from e
        if isinstance(result, Endpoint):
            return self._into(result.space, result.ifname)
        if isinstance(result, str):
            return self._into(HOST, result)
        self.doubts += result.doubts
        return self._leg(Leg(end="left", left=result.left))

    # -- overlays ----------------------------------------------------------------------

    def _overlaid(self, network: OverlayNetwork, near: IPv4Address) -> Leg:
        host, bridge, frame = self.observer.space(HOST), network.ports.bridge, self.frame
        if frame is None or (frame.bridge, frame.near) != (bridge, near):  # the host's own
            mac = host.nics[bridge].mac
            frame = switching.Frame(bridge=bridge, port=bridge, near=near, mac_src=mac)
        result = overlay_leaving.leaving(
            frame, network, self.ask.size, self.observer, self._say, self._outer
        )
        self.doubts += result.doubts
        return self._leg(Leg(end="left", left=result.left))

    def _outer(self, packet: Packet, iface: str) -> None:
        """See overlay.Outer."""
        self.asked = overlay_rules.follow(
            packet, iface, self.observer, self.guesses, self.asked, self._say
        )

    # -- from other hosts ----------------------------------------------------------------

    def _come(self, came: Left) -> Leg:
        host, near = self.observer.space(HOST), IPv4Address(came.near)
        if came.tunnels and came.tunnels[0].kind in overlay.KINDS:
            at = overlay_arriving.arriving(
                came, self.ends, self.ask.size, self.observer, self._say, self._outer
            )
            party = Party(kind="outside", iface=at.bridge, port=at.port)
            return self._through(host, party, host.facts.is_local(near))
        if came.tunnels:
            frame = switching.arriving(came, self.observer)
            ports = [p for p in self.observer.switch_ports() if p.name == frame.port]
            self.doubts += [d for p in ports if p.beginning for d in switching.doubts_of(p)]
            if frame.came is not None and not any(p.state for p in ports):
                underlay.arriving(frame.came, self.observer, self._outer)
            return self._switched(frame)
        dev = switching.receiving_interface(near, host)
        if came.mac_dst and came.mac_dst not in next_hop.macs_for(dev, near, self.observer):
            raise Elsewhere
        usable(host, dev)
        self._say(host.name, "wire", f"comes by {dev}, for {near}")
        return self._through(host, Party(kind="outside", iface=dev), host.facts.is_local(near))

    # -- the end ---------------------------------------------------------------------------

    def _arrived(self, space: Space, dev: str) -> Leg:
        taken, words = True, ""
        if not self.ask.answer:
            taken, why = received(space, self.ask.proto, self.ends, dev)
            self._say(space.name, "socket", why)
            words = causes.meant(space, self.ask.proto, self.ends, self.observer)
            words = "" if taken else words or why.partition(", but ")[2]
        arrived = Leg(end="arrived", space=space.key, name=space.name, taken=taken, words=words)
        return self._leg(arrived)
