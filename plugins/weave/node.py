"""A whole peer, sans-IO: datagrams and commands in, a `Step` out.

    node = Node(identity=..., crypto=..., random=..., settings=..., psk=..., boot=..., now=now)
    step = node.start(rows, now)        # by table, key: what all steps have persisted so far
    step = node.receive(datagram, Address("192.0.2.7", 6783), now)
    step = node.tick(now)               # at node.deadline() at the latest

Of a step first everything in `persist` is written, in one transaction; then datagrams are sent,
then events are reported.  Data does not go through here: workers seal and open it with the keys of
events (`events.KeysAdded`, `KeysUsed`, `KeysGone`) by what `forwarding` says.

`now`: seconds of a clock that goes on while the machine sleeps (CLOCK_BOOTTIME); it never goes back
but with another `boot`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeVar

from plugins.weave.core import Core, Rows
from plugins.weave.crypto import Crypto, Random
from plugins.weave.events import (
    Answered,
    Established,
    Failed,
    HeardDirectly,
    KeysAdded,
    KeysUsed,
    Lossy,
    Lost,
    Moved,
    Probed,
    Received,
)
from plugins.weave.forwarding import Forwarding
from plugins.weave.handshake import Party
from plugins.weave.identity import Identity, PeerId
from plugins.weave.membership import StatusChanged
from plugins.weave.mesh import Mesh
from plugins.weave.names import Names
from plugins.weave.ourselves import Settings
from plugins.weave.output import Output
from plugins.weave.prefixes import Prefix
from plugins.weave.record import Kind
from plugins.weave.sessions import Sessions
from plugins.weave.space import Space
from plugins.weave.step import NOTHING, Address, Change, Event, Relayed, Send, Step
from plugins.weave.trust import Trust

T = TypeVar("T")


class Node:
    """`sessions` may be called for the data plane (`probe`, `heard`, `renew`): see `after`."""

    def __init__(
        self, *, identity: Identity, crypto: Crypto, random: Random, settings: Settings,
        psk: bytes, trust: Trust, boot: bytes, now: float, features: int = 0,
    ) -> None:  # fmt: skip
        """`psk`: of the password (`Crypto.stretch`).  `boot`: see above."""
        self.me = identity.peer
        self.core = Core(identity, crypto, random, settings, boot, now)
        instance = self.core.mesh.ourselves.instance
        party = Party(
            crypto=crypto, random=random, us=identity, psk=psk, instance=instance,
            features=features,
        )  # fmt: skip
        self.sessions = Sessions(party, trust, now)
        self.changed: dict[int, None] = {}
        """Kinds of records that have changed since they were last taken out."""

    # Reading

    @property
    def mesh(self) -> Mesh:
        """Who is there, and what they say; not to be changed but by the commands below."""
        return self.core.mesh

    @property
    def space(self) -> Space:
        """Who owns which addresses; to be changed by `do` only."""
        return self.core.space

    @property
    def names(self) -> Names:
        return self.core.mesh.names

    @property
    def forwarding(self) -> Forwarding:
        return self.core.mesh.forwarding

    # Life

    def start(self, rows: Rows, now: float) -> Step:
        """Once, before all else.

        Raises:
            WireError: what is kept of addresses is damaged: this host has to become a new peer.
        """
        self.core.start(rows, now)
        refused = self.core.mesh.records.removed()
        return self._settle(self.sessions.refuse(refused, now), now)

    def deadline(self) -> float:
        """When `tick` has something to do; infinity: never."""
        return min(self.sessions.deadline(), self.core.deadline())

    def tick(self, now: float) -> Step:
        step = self.sessions.tick(now) if self.sessions.deadline() <= now else Step()
        self.core.tick(now)
        return self._settle(step, now)

    def receive(self, datagram: bytes, source: Address, now: float) -> Step:
        """Any UDP payload of the port but data; it never raises."""
        step = self.sessions.receive(datagram, source, now)
        return NOTHING if step is NOTHING else self._settle(step, now)

    def after(self, step: Step, now: float) -> Step:
        """What follows from a step of `sessions` that was called directly, with that step."""
        return self._settle(step, now)

    # Commands

    def connect(self, where: Address, now: float) -> Step:
        """Add a target."""
        self.core.mesh.connect(where, now)
        return self._settle(Step(), now)

    def forget(self, where: Address, now: float) -> Step:
        """Drop a target; a session with it stays as long as it is of use."""
        self.core.mesh.forget(where)
        return self._settle(Step(), now)

    def exchange(self, peer: PeerId, wanted: bool, now: float) -> Step:
        """Whether data is exchanged with a peer, so that a session is wanted."""
        self.core.mesh.exchange(peer, wanted)
        return self._settle(Step(), now)

    def put(self, kind: Kind, key: bytes, value: bytes, now: float) -> Step:
        """Say something of this host (`statements`).  WireError: it is too much."""
        self.core.mesh.ourselves.put(kind, key, value)
        return self._settle(Step(), now)

    def delete(self, kind: Kind, key: bytes, now: float) -> Step:
        self.core.mesh.ourselves.delete(kind, key)
        return self._settle(Step(), now)

    def resync(self, kind: Kind, values: Mapping[bytes, bytes], now: float) -> Step:
        """Say exactly this of a kind: ENDPOINT, NETWORK or NAME."""
        self.core.mesh.ourselves.resync(kind, values)
        return self._settle(Step(), now)

    def found(self, prefix: Prefix, now: float) -> Step:
        """Own this range of addresses, unless some range is known: `launch` without peers."""
        return self.do(lambda space: space.found(prefix, now), now)[1]

    def do(self, call: Callable[[Space], T], now: float) -> tuple[T, Step]:
        """Something with addresses: `node.do(lambda space: space.allocate(...), now)`."""
        result = call(self.core.space)
        return result, self._settle(Step(), now)

    # What follows

    def _settle(self, step: Step, now: float) -> Step:
        """Everything that a step of the sessions and calls of the core lead to."""
        persist: list[Change] = []
        send: list[Send] = []
        events: list[Event] = []
        steps = deque([step])
        while True:
            while steps:
                self._send(steps.popleft(), persist, send, events, now)
            out = self.core.take(now)
            persist += out.persist
            events += out.events
            self.changed |= dict.fromkeys(change.kind for change in out.changes)
            steps += self._do(out, now)
            if not steps and not self.core.busy:
                return Step(tuple(persist), tuple(send), tuple(events))

    def _send(
        self, step: Step, persist: list[Change], send: list[Send], events: list[Event], now: float
    ) -> None:
        """Pass to the core what the sessions say, and have it relay what it has to."""
        persist += step.persist
        for each in step.send:
            if isinstance(each.to, Relayed):
                self.core.mesh.relays.send(each.to.peer, each.datagram)
            else:
                send.append(each)
        for event in step.events:
            match event:
                case Received():
                    self.core.received(event.peer, event.message, now)
                    continue
                case Established():
                    self.core.established(event.keys, event.where, now)
                case Answered():
                    self.core.mesh.answered(event.peer, event.where)
                case Lost():
                    self.core.lost(event.peer, now)
                case Moved() | KeysUsed():  # by new keys, too, a session may go another way
                    where = self.sessions.where(event.peer)
                    if where is not None and where != self.core.mesh.where(event.peer):
                        self.core.moved(event.peer, where, now)
                case Failed():
                    self.core.failed(event.where, now, itself=event.itself)
            if not self._is_farewell(event):
                events.append(event)

    def _is_farewell(self, event: Event) -> bool:
        """Whether it is of a session with a removed peer, which carries no data."""
        match event:
            case KeysAdded():
                peer = event.keys.peer
            case (Answered() | Established() | KeysUsed() | Moved() | HeardDirectly() | Probed()
                  | Lossy()):  # fmt: skip
                peer = event.peer
            case _:
                return False
        return self.core.mesh.records.refused(peer)

    def _do(self, out: Output, now: float) -> list[Step]:
        """Have the sessions do what the core asks."""
        steps = []
        hosts = self.core.mesh.membership.hosts
        for dial in out.dial:
            host = None if dial.peer is None else hosts.get(dial.peer)
            steps.append(self.sessions.connect(dial.where, now, host.keys if host else None))
        steps += [self.sessions.send(peer, data, now) for peer, data in out.messages]
        steps += [self.sessions.close(peer, now) for peer in out.hang]
        steps += [
            self.sessions.receive(datagram, Relayed(source), now)
            for source, datagram in out.relayed
        ]
        if any(isinstance(e, StatusChanged) and e.new is None for e in out.events):
            steps.append(self.sessions.refuse(self.core.mesh.records.removed(), now))
        return [step for step in steps if step.send or step.events or step.persist]
