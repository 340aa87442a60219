"""What follows in a host's part of an overlay from what its control plane did and reported."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from plugins.weave import holdings, prefixes, statements
from plugins.weave.carriers import Carriers
from plugins.weave.events import (
    Answered,
    Cloned,
    Established,
    Failed,
    KeysAdded,
    KeysGone,
    KeysUsed,
    Lossy,
    Probed,
    Received,
)
from plugins.weave.holder import Fenced
from plugins.weave.identity import PeerId
from plugins.weave.local import AddressLost, Granted
from plugins.weave.membership import StatusChanged
from plugins.weave.networks import Common, Networks
from plugins.weave.node import Node
from plugins.weave.outbox import Recorded
from plugins.weave.path import Probe
from plugins.weave.planes import MembersChanged, ProbeVxlan, TableChanged
from plugins.weave.record import Kind
from plugins.weave.removal import Removed
from plugins.weave.requests import Allocated
from plugins.weave.statements import encode, read
from plugins.weave.step import Address, Change, Event, Send, Step, Where
from plugins.weave.taken import Faulty, InUse

INSIDE: Final = (Answered, KeysAdded, KeysUsed, KeysGone, Lossy, Probed, Received, Recorded)
"""Events of no interest outside."""
OURSELVES: Final = "cannot connect to ourself"
FAILURES: Final = 512
"""Addresses of which it is remembered why an attempt failed."""


class Reactions:
    def __init__(self, node: Node, carriers: Carriers, networks: Networks) -> None:
        self._node, self._carriers, self._networks = node, carriers, networks
        self._exchanged: dict[PeerId, Common] = {}
        self._owners = False  # other addresses may be rightful than before
        self._life = False  # a peer died, or came back
        self.fenced = False
        self.warnings: dict[str, str] = {}
        """By what they are about; for people."""
        self.faulty: dict[PeerId, str] = {}
        self.failures: dict[Where, str] = {}

    def settle(self, step: Step, now: float) -> Step:
        """A step of the node, and everything that follows from it."""
        persist: list[Change] = []
        send: list[Send] = []
        events: list[Event] = []
        steps = deque([step])
        while steps:
            step = steps.popleft()
            persist += step.persist
            send += step.send
            for event in step.events:
                steps += self._on(event, events, now)
            if not steps:
                steps += self._work_out(events, now)
        return Step(tuple(persist), tuple(send), tuple(events))

    def send(self, probes: list[Probe], now: float) -> Step:
        """Probes of paths, on their way."""
        step = Step()
        for probe in probes:
            where = self._node.sessions.where(probe.peer)
            if probe.need is None:
                step += self._node.sessions.probe(probe.peer, probe.number, probe.size, now)
            elif isinstance(where, Address):
                data = self._node.me + probe.number.to_bytes(4, "big")
                step += Step(events=(ProbeVxlan(
                    to=where, vni=probe.need.vni, mac=probe.need.mac, data=data, size=probe.size,
                ),))  # fmt: skip
        return step

    def hide(self, now: float) -> Step:
        """Have our endpoints with addresses that the overlay gives out be seen, or not."""
        records, step = self._node.mesh.records, Step()
        for record in list(records.of(self._node.me, Kind.ENDPOINT)):
            endpoint = read(record.value, statements.Endpoint)
            if endpoint is not None:
                shown = self.shown(endpoint)
                if shown != endpoint:
                    step += self._node.put(Kind.ENDPOINT, record.key, encode(shown), now)
        return step

    def shown(self, endpoint: statements.Endpoint) -> statements.Endpoint:
        """As others are to see it."""
        given = any(
            self._networks.given_out(self._node.space, endpoint.network, prefixes.of(packed))
            for packed in endpoint.addresses
        )
        return msgspec.structs.replace(endpoint, hidden=self.fenced and given)

    # -- one event -------------------------------------------------------------------------------

    def _on(self, event: Event, events: list[Event], now: float) -> list[Step]:
        """Take up an event; it is reported in the order in which it came."""
        steps: list[Step] = []
        self._carriers.on(event, now)
        self._flush(events)
        match event:
            case Allocated():
                prefix = event.realm.range
                address = prefixes.text(prefix.family, event.address)
                event = Granted(event.ticket, event.ident, address, event.length)
            case holdings.Lost():
                address = prefixes.text(event.realm.range.family, event.address)
                event = AddressLost(event.ident, address)
            case Fenced():
                self.fenced = event.fenced
                steps.append(self.hide(now))
            case Recorded():
                self._owners = True
            case StatusChanged():
                self._life = True
                if event.new is None:
                    self._carriers.forget(event.peer)
                    self.faulty.pop(event.peer, None)
            case Removed() if event.peer == self._node.me:
                steps += [self._close(peer, now) for peer in self._node.sessions.peers()]
            case _:
                self._warn(event)
        if not isinstance(event, INSIDE):
            events.append(event)
        return steps

    def _close(self, peer: PeerId, now: float) -> Step:
        return self._node.after(self._node.sessions.close(peer, now), now)

    def _warn(self, event: Event) -> None:
        match event:
            case Cloned() | InUse():
                self.warnings["copy"] = (
                    "another host has a copy of this host's state and is in its place: run"
                    " `netkit weave reset` on one of the two"
                )
            case Faulty():
                self.faulty[event.origin] = event.why
            case Failed():
                self.failures.pop(event.where, None)
                self.failures[event.where] = OURSELVES if event.itself else event.why
                if len(self.failures) > FAILURES:
                    del self.failures[next(iter(self.failures))]
            case Established() | Answered():
                self.failures.pop(event.where, None)

    def _flush(self, events: list[Event]) -> None:
        events += self._carriers.events
        self._carriers.events = []

    # -- what is to be worked out when all events are taken up -----------------------------------

    def _work_out(self, events: list[Event], now: float) -> list[Step]:
        """Tables and paths, as they follow from records."""
        steps: list[Step] = []
        changed, self._node.changed = self._node.changed, {}
        forwarding = self._node.forwarding
        touched, forwarding.touched = forwarding.touched, {}
        moved, forwarding.moved = forwarding.moved, {}
        everything = self._owners or Kind.NETWORK in changed
        self._owners = False
        if touched or everything:
            self._networks.read()
            steps += self._exchange(now)
        self._flush(events)
        if touched or everything:
            here = self._networks.here
            events += [TableChanged(each) for each in (here if everything else touched)
                       if each in here]  # fmt: skip
        others = any(peer != self._node.me for peer in moved)
        if others or everything or self._life or Kind.NAME in changed:
            events.append(MembersChanged())
        self._life = False
        renew, self._carriers.renew = self._carriers.renew, {}
        sessions = self._node.sessions
        steps += [self._node.after(sessions.renew(peer, now), now) for peer in renew]
        return [step for step in steps if step != Step()]

    def _exchange(self, now: float) -> list[Step]:
        """Sessions with those that data is exchanged with, and what is to be carried to them."""
        common, before = self._networks.common(), self._exchanged
        self._exchanged = common
        self._carriers.want(common, now)
        came = [peer for peer in common if peer not in before]
        gone = [peer for peer in before if peer not in common]
        steps = [self._node.exchange(peer, True, now) for peer in came]
        return [*steps, *(self._node.exchange(peer, False, now) for peer in gone)]
