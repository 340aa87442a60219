"""Hosts with whole overlays on a network in memory: datagrams, VXLAN probes, NAT, MTUs, disks."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from plugins.weave import identity
from plugins.weave.identity import PeerId
from plugins.weave.local import Endpoint, Granted, Name, Network
from plugins.weave.overlay import TABLES, Overlay
from plugins.weave.planes import Accept, AcceptNoMore, PeerGone, PeerPath, ProbeVxlan, Way
from plugins.weave.requests import Refused
from plugins.weave.settings import Settings
from plugins.weave.step import Address, Event, Step
from tests.simulation.crypto import FakeCrypto

CRYPTO = FakeCrypto()
LANE = Network(id=b"lane", name="lane", vni=7, subnets=("10.32.0.0/16",))
E = TypeVar("E", bound=Event)


class Machine:
    """Does what steps say, and keeps what planes are told."""

    def __init__(self, wire: Wire, number: int, settings: Settings) -> None:
        self.wire, self.number = wire, number
        self.address = Address(f"192.0.2.{number}", 6783)
        self.settings = replace(
            settings, nickname=settings.nickname or f"h{number}", addresses=(self.address,)
        )
        self.random = random.Random(number).randbytes
        self.identity = identity.make(CRYPTO, self.random)
        self.boot = b"boot"
        self.rows: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self.transactions: list[dict[tuple[str, bytes], bytes | None]] = []
        self.start()

    @property
    def me(self) -> PeerId:
        return self.identity.peer

    def start(self) -> None:
        self.events: list[Event] = []
        self.paths: dict[PeerId, PeerPath] = {}
        self.accepts: dict[int, Accept] = {}
        self.used: set[bytes] = set()
        self.wake = float("inf")
        self.useless = 0
        self.overlay = Overlay(
            identity=self.identity, crypto=CRYPTO, random=self.random, settings=self.settings,
            boot=self.boot, now=self.wire.now,
        )  # fmt: skip
        self.wire.machines[self.address] = self
        self.do(self.overlay.start(self.rows, self.wire.now))

    def stop(self) -> None:
        self.wire.machines.pop(self.address, None)
        self.wake = float("nan")

    def torn(self, transactions: int = 1) -> None:
        """The newest transactions never reached the disk."""
        for undo in reversed(self.transactions[-transactions:]):
            for (table, key), value in undo.items():
                if value is None:
                    self.rows[table].pop(key, None)
                else:
                    self.rows[table][key] = value
        self.transactions.clear()

    def do(self, step: Step) -> None:
        self._write(step)
        for send in step.send:
            assert isinstance(send.to, Address)
            self.wire.send(self, send.to, send.datagram, whole=send.whole)
        for event in step.events:
            self.events.append(event)
            self._plane(event)
        at = max(self.overlay.deadline(), self.wire.now)
        if at < self.wake:
            self.wake = at
            self.wire.at(at, lambda: self.tick(at))

    def _write(self, step: Step) -> None:
        undo: dict[tuple[str, bytes], bytes | None] = {}
        for change in step.persist:
            table = self.rows[change.table]
            undo.setdefault((change.table, change.key), table.get(change.key))
            if change.value is None:
                table.pop(change.key, None)
            else:
                table[change.key] = change.value
        if undo:
            self.transactions = [*self.transactions[-9:], undo]

    def _plane(self, event: Event) -> None:
        match event:
            case PeerPath():
                self._once(event)
                self.paths[event.peer] = event
                assert event.number == self.overlay.carriers.number(event.peer)
            case PeerGone():
                del self.paths[event.peer]
            case Accept():
                self.accepts[event.index] = event
            case AcceptNoMore():
                del self.accepts[event.index]
            case ProbeVxlan():
                self.wire.vxlan(self, event)

    def _once(self, path: PeerPath) -> None:
        """Workers take no key again that they have put away."""
        before = self.paths.get(path.peer)
        if before is not None and before.key and before.key != path.key:
            self.used.add(before.key)
        assert path.key not in self.used
        other = next((m for m in self.wire.machines.values() if m.me == path.peer), None)
        if self.wire.strict and before is not None and other is not None:
            accept = other.accepts[path.index]
            assert (accept.key, accept.peer) == (path.key, self.me)

    def tick(self, at: float) -> None:
        if at == self.wake:
            self.wake = float("inf")
            self.do(self.overlay.tick(self.wire.now))
            due = self.overlay.deadline()
            self.useless = self.useless + 1 if due <= self.wire.now else 0
            assert self.useless < 4, "a deadline that a tick does not meet"

    # -- commands --------------------------------------------------------------------------------

    def launch(self, *others: Machine) -> None:
        now = self.wire.now
        if not others:
            self.do(self.overlay.prime(now))
        for other in others:
            self.do(self.overlay.connect(other.seen, now, f"host{other.number}"))

    @property
    def seen(self) -> Address:
        return self.wire.nat.get(self.address, self.address)

    def container(
        self, name: str, address: str, *, network: Network = LANE, mac: str = ""
    ) -> None:
        mac = mac or f"02:00:00:00:{self.number:02x}:{len(name) + ord(name[-1]):02x}"
        now = self.wire.now
        self.do(self.overlay.put(network, now))
        endpoint = Endpoint(
            id=name.encode(), network=network.id, mac=mac, addresses=(address,), names=(name,),
            container=name,
        )  # fmt: skip
        self.do(self.overlay.put(endpoint, now))

    def allocate(self, ident: str, **options: Any) -> int:
        now = self.wire.now
        ticket, step = self.overlay.allocate(ident.encode(), now, now + 20, **options)
        self.do(step)
        return ticket

    def claim(self, ident: str, address: str, **options: Any) -> int:
        now = self.wire.now
        ticket, step = self.overlay.claim(ident.encode(), address, now, now + 20, **options)
        self.do(step)
        return ticket

    def answer(self, ticket: int) -> str:
        """The address, or why there is none; "": not answered yet."""
        for event in self.events:
            if isinstance(event, Granted) and event.ticket == ticket:
                return event.address
            if isinstance(event, Refused) and event.ticket == ticket:
                return f"refused: {event.text}"
        return ""

    def events_of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def name(self, name: str, address: str) -> None:
        value = Name(id=name.encode(), network=LANE.id, name=name, addresses=(address,))
        self.do(self.overlay.put(value, self.wire.now))

    def way(self, other: Machine) -> Way:
        path = self.paths.get(other.me)
        return path.way if path else Way.NONE

    def reason(self, other: Machine) -> str:
        return self.paths[other.me].reason

    def carries(self, other: Machine, datagram: bytes) -> None:
        """Data by relay, as the shell does it."""
        path = self.paths[other.me]
        assert path.way is Way.RELAY
        self.do(self.overlay.relay(path.number, datagram, self.wire.now))


class Wire:
    """10 ms from everybody to everybody, but for pairs that are cut."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.machines: dict[Address, Machine] = {}
        self.cut: set[frozenset[Address]] = set()
        self.nat: dict[Address, Address] = {}
        self.mtu: dict[frozenset[Address], int] = {}
        self.default_mtu = 1500
        self.no_vxlan: set[frozenset[Address]] = set()
        self.seen: list[tuple[Address, Address, bytes]] = []
        self.vxlans = 0
        self.strict = False
        """What is to be used has to be taken by the other side already."""
        self._asked: set[tuple[Address, Address]] = set()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def machine(self, number: int, **settings: Any) -> Machine:
        return Machine(self, number, Settings(**settings))

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._numbers), call))

    def _inside(self, to: Address) -> Address:
        return next((inner for inner, outer in self.nat.items() if outer == to), to)

    def _carried(self, one: Address, other: Address, size: int) -> bool:
        pair = frozenset((one, other))
        return pair not in self.cut and size + 28 <= self.mtu.get(pair, self.default_mtu)

    def send(self, source: Machine, to: Address, datagram: bytes, *, whole: bool) -> None:
        outer = self.nat.get(source.address, source.address)
        self._asked.add((outer, to))
        self.seen.append((outer, to, datagram))
        size = len(datagram) if whole else 0
        inner = self._inside(to)
        if inner != to and (to, outer) not in self._asked:
            return  # a NAT lets in answers only
        if inner == to and to in self.nat:
            return  # it has no such address on the outside
        if self._carried(source.address, inner, size):
            self.at(self.now + 0.01, lambda: self._arrive(outer, inner, datagram))

    def _arrive(self, source: Address, to: Address, datagram: bytes) -> None:
        machine = self.machines.get(to)
        if machine is not None:
            machine.do(machine.overlay.receive(datagram, source, self.now))

    def vxlan(self, source: Machine, probe: ProbeVxlan) -> None:
        self.vxlans += 1
        pair = frozenset((source.address, probe.to))
        if pair in self.no_vxlan or not self._carried(source.address, probe.to, probe.size):
            return
        if probe.to in self.machines and probe.to not in self.nat:
            self.at(self.now + 0.01, lambda: self._comes_out(source, probe))

    def _comes_out(self, source: Machine, probe: ProbeVxlan) -> None:
        machine = self.machines.get(probe.to)
        if machine is None or not any(
            net.vni == probe.vni for net in machine.overlay.networks.here.values()
        ):
            return
        path = machine.paths.get(source.me)
        if path is not None and source.address.host in path.sources:
            machine.do(machine.overlay.saw_vxlan(probe.data, probe.size, self.now))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, call = heapq.heappop(self._queue)
            call()
        self.now = end


def keys_fit(one: Machine, other: Machine) -> bool:
    """Whether what one sends the other accepts, in the same way."""
    path = one.paths[other.me]
    accept = other.accepts.get(path.index)
    return accept is not None and accept.key == path.key and accept.peer == one.me
