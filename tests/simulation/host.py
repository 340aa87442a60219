"""A simulated host: a disk, the real core, and sessions that are believed in instead of sealed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from plugins.weave import identity
from plugins.weave.core import TABLES, Core
from plugins.weave.identity import Identity, PeerId, PublicKeys
from plugins.weave.mesh import Mesh
from plugins.weave.ourselves import Settings
from plugins.weave.output import Output
from plugins.weave.prefixes import Prefix
from plugins.weave.step import Address, Change, Relayed, Where
from tests.simulation.crypto import FakeCrypto
from tests.simulation.network import Clock, Network

CRYPTO = FakeCrypto()
OVERHEAD = 28 + 16 + 16
"""Bytes of IPv4, UDP, our header and the tag, of each message."""
HANDSHAKE = 28 + 320
GRAIN = 0.001
"""Seconds between two ticks: what is due at one time need not be due at it exactly."""
Row = tuple[str, bytes]


@dataclass(slots=True)
class Disk:
    """Rows, and what they were after earlier transactions."""

    rows: dict[Row, bytes] = field(default_factory=dict)
    history: list[dict[Row, bytes | None]] = field(default_factory=list)
    """What each transaction has replaced, the newest last."""
    keep: int = 0
    """Transactions that can be taken back."""

    def write(self, changes: list[Change]) -> None:
        undo: dict[Row, bytes | None] = {}
        for change in changes:
            row = (change.table, change.key)
            if self.keep:
                undo.setdefault(row, self.rows.get(row))
            if change.value is None:
                self.rows.pop(row, None)
            else:
                self.rows[row] = change.value
        if self.keep and undo:
            self.history.append(undo)
            del self.history[: -self.keep]

    def take_back(self, transactions: int) -> None:
        """As if the newest ones had never reached the disk."""
        for undo in reversed(self.history[-transactions:]):
            for row, value in undo.items():
                if value is None:
                    self.rows.pop(row, None)
                else:
                    self.rows[row] = value
        self.history.clear()


@dataclass(slots=True)
class Session:
    instance: bytes  # the other side's
    where: Where


class Host:
    """One machine; `core` is None while it is down."""

    def __init__(
        self,
        number: int,
        clock: Clock,
        network: Network,
        seed: int,
        hosts: dict[Address, Host],
    ) -> None:
        self.number, self.clock, self.network, self.hosts = number, clock, network, hosts
        self.random = random.Random(f"{seed} host {number}")
        self.address = Address(f"10.1.{number // 250}.{number % 250 + 1}", 6783)
        self.disk = Disk()
        self.targets: list[Address] = []
        self.identity: Identity
        self.me: PeerId
        self.lose_disk()
        self.core: Core | None = None
        self.founds: Prefix | None = None
        """The range of addresses that it owns when it starts for the first time."""
        self.sessions: dict[PeerId, Session] = {}
        self.instance = b""
        self.ahead = 0.0
        """Of this host's clock before the simulation's."""
        self.watch: Callable[[Host, Output], None] = lambda host, output: None
        self.dies_before_sending = False
        self.sent: dict[int, int] = {}
        self.boot = self.random.randbytes(8)
        self._wake = inf
        hosts[self.address] = self

    @property
    def mesh(self) -> Mesh | None:
        return None if self.core is None else self.core.mesh

    @property
    def now(self) -> float:
        return self.clock.now + self.ahead

    # Life

    def start(self) -> None:
        """The process starts, with what is on the disk."""
        self.instance = self.random.randbytes(8)
        self.sessions = {}
        settings = Settings(nickname=f"host{self.number}", addresses=(self.address,))
        draw = self.random.randbytes
        core = Core(self.identity, CRYPTO, draw, settings, self.boot, self.now)
        self.core = core
        rows: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        for (table, key), value in self.disk.rows.items():
            rows[table][key] = value
        core.start(rows, self.now)
        if self.founds is not None:
            core.space.found(self.founds, self.now)
            self.founds = None
        for target in self.targets:
            core.mesh.connect(target, self.now)
        self.act()

    def crash(self, *, reboot: bool = False) -> None:
        """With `reboot` the clock begins anew."""
        self.core = None
        if reboot:
            self.ahead, self.boot = -self.clock.now, self.random.randbytes(8)
        self.sessions = {}
        self._wake = inf
        self.dies_before_sending = False

    def lose_disk(self) -> None:
        """It comes back as another peer."""
        self.disk = Disk(keep=self.disk.keep)
        self.identity = identity.make(CRYPTO, self.random.randbytes)
        self.me = self.identity.peer

    def act(self) -> None:
        """Do what the core asks, and be called again when it wants to be."""
        core = self.core
        if core is None:
            return
        output = core.take(self.now)
        if output.persist:
            self.disk.write(output.persist)
        self.watch(self, output)
        if self.dies_before_sending and output.persist:
            self.crash()
            return
        self._send(output)
        at = max(core.deadline() - self.ahead, self.clock.now + GRAIN)
        if at < self._wake:
            self._wake = at
            self.clock.at(at, self._tick, at, core)

    def _tick(self, at: float, core: Core) -> None:
        if core is not self.core or at != self._wake:
            return
        self._wake = inf
        core.tick(self.now)
        self.act()

    # Sessions

    def _send(self, output: Output) -> None:
        for dial in output.dial:
            self._handshake(dial.where, 0, dial.peer, b"")
        for peer in output.hang:
            self.sessions.pop(peer, None)
        for peer, data in output.messages:
            session = self.sessions.get(peer)
            if session is not None:
                self._carry(peer, session, data)
        for source, datagram in output.relayed:
            self._opened(source, datagram)

    def _carry(self, peer: PeerId, session: Session, data: bytes) -> None:
        kind = data[1] if len(data) > 1 else 0
        self.sent[kind] = self.sent.get(kind, 0) + len(data) + OVERHEAD
        if isinstance(session.where, Relayed):
            assert self.core is not None
            sealed = b"\5" + self.instance + session.instance + data
            if self.core.mesh.relays.send(peer, sealed):
                self.clock.at(self.clock.now, self._again, self.core)
            return
        other = self.hosts[session.where]
        self.network.send(
            self.number, other.number, len(data) + OVERHEAD,
            other.message, self.me, self.instance, session.instance, data,
        )  # fmt: skip

    def _again(self, core: Core) -> None:
        if core is self.core:
            self.act()

    def message(self, peer: PeerId, instance: bytes, mine: bytes, data: bytes) -> None:
        """A message of another host arrives."""
        session = self.sessions.get(peer)
        if self.core is None or session is None:
            return
        if session.instance != instance or mine != self.instance:
            return
        self.clock.note(data)
        self.core.received(peer, data, self.now)
        self.act()

    def _handshake(self, where: Where, step: int, peer: PeerId | None, theirs: bytes) -> None:
        public = self.identity.public
        if isinstance(where, Relayed):
            assert self.core is not None
            keys = public.signing + public.exchange
            datagram = bytes((step,)) + self.instance + theirs + keys
            if self.core.mesh.relays.send(where.peer, datagram):
                self.clock.at(self.clock.now, self._again, self.core)
            return
        other = self.hosts.get(where)
        if other is not None:
            self.network.send(
                self.number, other.number, HANDSHAKE,
                other.shake, self.address, step, public, self.instance, theirs, peer,
            )  # fmt: skip

    def shake(
        self, source: Where, step: int, keys: PublicKeys, theirs: bytes, mine: bytes,
        wanted: PeerId | None,
    ) -> None:  # fmt: skip
        """A message of a handshake: 0 asks, 1 answers, 2 confirms; with instances of both."""
        if self.core is None or (wanted is not None and wanted != self.me):
            return
        if keys.peer == self.me:
            self.core.failed(source, self.now, itself=True)
        elif step == 0:
            self._handshake(source, 1, None, theirs)
        elif mine == self.instance:
            if step == 1:
                self._handshake(source, 2, None, theirs)
            self._establish(keys, source, theirs)
        self.act()

    def _establish(self, keys: PublicKeys, where: Where, theirs: bytes) -> None:
        old = self.sessions.get(keys.peer)
        same = old is not None and old.instance == theirs
        if same and old is not None and (old.where == where or isinstance(where, Relayed)):
            return
        assert self.core is not None
        self.sessions[keys.peer] = Session(theirs, where)
        self.clock.note(b"%d established" % self.number + keys.peer)
        self.core.established(keys, where, self.now)

    def _opened(self, source: PeerId, datagram: bytes) -> None:
        """A datagram that came by relay."""
        step, theirs, mine = datagram[0], datagram[1:9], datagram[9:17]
        if step == 5:
            self.clock.at(self.clock.now, self.message, source, theirs, mine, datagram[17:])
            return
        at = 9 if step == 0 else 17
        keys = PublicKeys(datagram[at : at + 32], datagram[at + 32 : at + 64])
        if keys.peer == source:
            self.clock.at(
                self.clock.now, self.shake, Relayed(source), step, keys, theirs, mine, None
            )
