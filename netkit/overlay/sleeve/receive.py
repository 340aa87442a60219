"""Datagrams of all peers, opened, checked, and written to TAP devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from netkit.overlay.sleeve import framing, vnet
from netkit.overlay.sleeve.checks import Sources
from netkit.overlay.sleeve.framing import FLAG_BUNDLE, FRONT, HEAD, LENGTH, PREFIX, Header
from netkit.overlay.sleeve.reassembly import Reassembly
from netkit.overlay.sleeve.sealing import Opening
from netkit.overlay.sleeve.tables import PeerCounts, PutSession
from netkit.overlay.sleeve.vectors import Area, Scatter, packed_address

USUAL = 1472  # bytes of a datagram to begin with


@dataclass(slots=True)
class Session:
    """What comes with one index."""

    told: PutSession
    opening: Opening
    address: bytes  # packed, of the only sender where nothing is sealed
    counts: PeerCounts
    parts: Reassembly = field(default_factory=Reassembly)

    @classmethod
    def of(cls, told: PutSession, former: Session | None, counts: PeerCounts) -> Session:
        """The window of a key that was in use before stays as it is."""
        address = packed_address(told.address, 1) if told.address else b""
        if former is not None and former.told.key == told.key and told.key:
            return cls(told, former.opening, address, counts, former.parts)
        return cls(told, Opening(told.key), address, counts)

    def dropped(self, why: str) -> None:
        self.counts.dropped[why] = self.counts.dropped.get(why, 0) + 1


@dataclass(slots=True)
class Port:
    """A network's TAP device, and who may send into it."""

    tap: int
    sources: Sources = field(default_factory=Sources)


class Receiver:
    """`sessions` and `ports` are looked up anew for each datagram."""

    def __init__(self, socket: int, sessions: dict[int, Session], ports: dict[int, Port]) -> None:
        self._socket, self._sessions, self._ports = socket, sessions, ports
        self._scatter = Scatter(USUAL)
        self._opened = Area(1 << 17)
        self.dropped: dict[str, int] = {}

    def run(self, over: Callable[[], bool]) -> None:
        """Until it is `over`; a datagram to the socket, of whatever kind, wakes it to look."""
        while not over():
            self.step()

    def step(self) -> None:
        """One call's datagrams.  OSError."""
        scatter = self._scatter
        try:
            size, each = scatter.receive(self._socket)
        except ConnectionRefusedError:  # an ICMP error that an earlier datagram brought
            return
        if size < HEAD:
            return self._drop("short")
        if each > scatter.cut.size or (size > each and each != scatter.cut.size):
            return self._laid_out_wrongly(size, each)
        first = framing.read(scatter.headers)
        session = self._session(first)
        if session is None:
            return None
        count = -(-size // each)
        length = size - HEAD * count
        if first.piece == 0 and first.pieces == count and self._whole(session, first, length):
            return None
        return self._one_by_one(size, each)

    def _session(self, head: Header) -> Session | None:
        session = self._sessions.get(head.receiver)
        if session is None or head.type != framing.DATA:
            self._drop("no session")
            return None
        if session.address and not self._from(session.address):
            session.dropped("other sender")
            return None
        return session

    def _from(self, address: bytes) -> bool:
        """Is this who sent them?  Whatever the port: it may be translated."""
        sender = self._scatter.sender
        return sender[:2] == address[:2] and sender[4:] == address[4:]

    # what came whole

    def _whole(self, session: Session, head: Header, length: int) -> bool:
        """All pieces of one payload are there, in order."""
        scatter = self._scatter
        if session.opening.sealed:
            plain = self._opened.view
            size = session.opening.into(
                head.counter, scatter.headers[:HEAD], scatter.payload[:length], plain
            )
            if size < 0 and head.pieces > 1:
                return False  # pieces of others may be among them
            if size < 0:
                session.dropped("forged or replayed")
                return True
        else:
            if head.pieces > 1 and not self._in_order(head):
                return False
            plain, size = scatter.payload, length
        self._deliver(session, head.flags, plain[:size])
        return True

    def _in_order(self, head: Header) -> bool:
        """Without a seal, each header has to be looked at."""
        expected = b"".join([
            framing.header(head.flags if n == 0 else 0, n, head.pieces if n == 0 else 0,
                           head.receiver, head.counter)
            for n in range(head.pieces)
        ])  # fmt: skip
        return bytes(self._scatter.headers[: HEAD * head.pieces]) == expected

    # what did not

    def _laid_out_wrongly(self, size: int, each: int) -> None:
        data = memoryview(self._scatter.linear(size))
        for at in range(0, size, each):
            self._datagram(data[at : at + each])
        if each != self._scatter.cut.size and framing.SMALLEST <= each <= framing.LARGEST:
            self._scatter.lay_out(each)

    def _one_by_one(self, size: int, each: int) -> None:
        scatter, part = self._scatter, self._scatter.cut.part
        for number, at in enumerate(range(0, size, each)):
            length = min(each, size - at) - HEAD
            if length < 0:
                return self._drop("short")
            header = scatter.headers[HEAD * number : HEAD * (number + 1)]
            begin = part * number
            self._piece(bytes(header), scatter.payload[begin : begin + length])
        return None

    def _datagram(self, data: memoryview) -> None:
        if len(data) < HEAD:
            return self._drop("short")
        return self._piece(bytes(data[:HEAD]), data[HEAD:])

    def _piece(self, header: bytes, part: memoryview) -> None:
        head = framing.read(header)
        session = self._session(head)
        if session is None:
            return
        if head.piece == 0 and head.pieces == 1:
            payload: bytes | memoryview = part
        else:
            found = session.parts.add(head.counter, head.piece, head.pieces, header, bytes(part))
            session.counts.incomplete = session.parts.incomplete
            if found is None:
                return
            header, payload = found
        if not session.opening.sealed:
            return self._deliver(session, header[1], memoryview(payload))
        size = session.opening.into(head.counter, header, payload, self._opened.view)
        if size < 0:
            return session.dropped("forged or replayed")
        return self._deliver(session, header[1], self._opened.view[:size])

    # frames

    def _deliver(self, session: Session, flags: int, payload: memoryview) -> None:
        if len(payload) < FRONT:
            return session.dropped("short")
        port = self._ports.get(PREFIX.unpack_from(payload)[0] >> 8)
        if port is None:
            return session.dropped("no such network")
        if not flags & FLAG_BUNDLE:
            return self._frame(session, port, payload[FRONT:])
        at, end = FRONT, len(payload)
        while at + LENGTH.size <= end:
            (size,) = LENGTH.unpack_from(payload, at)
            at += LENGTH.size
            if at + size > end:
                return session.dropped("malformed")
            self._frame(session, port, payload[at : at + size])
            at += size
        return None

    def _frame(self, session: Session, port: Port, frame: memoryview) -> None:
        if len(frame) < vnet.SHORTEST:
            return session.dropped("short")
        if not port.sources.allows(session.told.peer, frame):
            return session.dropped("source")
        try:
            os.write(port.tap, frame)
        except OSError:  # the device is down or its queue is full, or the header lies
            return session.dropped("device")
        session.counts.frames += 1
        session.counts.bytes += len(frame)
        return None

    def _drop(self, why: str) -> None:
        self.dropped[why] = self.dropped.get(why, 0) + 1
