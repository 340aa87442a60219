"""Datagrams of all peers, opened, checked, and written to TAP devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from netkit.overlay.sleeve import framing, vnet
from netkit.overlay.sleeve.checks import Sources
from netkit.overlay.sleeve.framing import (
    DATA,
    FLAG_ALONE,
    FLAG_BUNDLE,
    FRONT,
    HEAD,
    HEADER,
    LENGTH,
    MOST_PIECES,
    PREFIX,
)  # fmt: skip
from netkit.overlay.sleeve.reassembly import Reassembly
from netkit.overlay.sleeve.sealing import Keys, Opening
from netkit.overlay.sleeve.segmentation import Malformed
from netkit.overlay.sleeve.segments import Joining
from netkit.overlay.sleeve.tables import PeerCounts, PutSession
from netkit.overlay.sleeve.vectors import Area, Scatter, eights, packed_address

USUAL = 1472  # bytes of a datagram to begin with


@dataclass(slots=True)
class Session:
    """What comes with one index."""

    told: PutSession
    opening: Opening
    address: bytes  # packed, of the only sender where nothing is sealed
    counts: PeerCounts
    parts: Reassembly = field(default_factory=Reassembly)
    _later: bytearray = field(default_factory=bytearray)

    @classmethod
    def of(cls, told: PutSession, keys: Keys[Opening], counts: PeerCounts) -> Session:
        """ValueError: a key that was in use, or an address that is none."""
        address = packed_address(told.address, 1) if told.address else b""
        if not told.key and not address:
            raise ValueError("a session that is not sealed has to have an address")
        return cls(told, keys.of(told.key), address, counts)

    def later(self, count: int, counter: int) -> bytearray:
        """The headers of all `count` pieces of a payload but the first."""
        if not self._later:
            for piece in range(MOST_PIECES):
                self._later += framing.header(0, piece, 0, self.told.index, 0)
        made = self._later[HEAD : HEAD * count]
        memoryview(made).cast("Q")[1::2] = eights(counter, count - 1)
        return made

    def dropped(self, why: str) -> None:
        self.counts.dropped[why] = self.counts.dropped.get(why, 0) + 1

    def opened(self, datagrams: int) -> None:
        self.counts.payloads += 1
        self.counts.datagrams += datagrams


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
        self._joining = Joining()
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
        except (ConnectionRefusedError, InterruptedError):  # an ICMP error of an earlier datagram
            return
        if size < HEAD or (each <= HEAD and size > each):
            return self._drop("short")
        kind, flags, piece, pieces, index, counter = HEADER.unpack_from(scatter.headers)
        session = self._sessions.get(index)
        if session is None or kind != DATA:
            return self._drop("no session")
        if session.address and not self._from(session.address):
            return session.dropped("other sender")
        count = -(-size // each)
        if piece == 0 and pieces == count:
            length = size - HEAD * count
            if session.opening.sealed:
                whole = self._sealed(session, flags, count, counter, length)
            else:
                whole = self._clear(session, flags, count, counter, length)
            if whole:
                return None
        return self._one_by_one(session, size, each)

    def _from(self, address: bytes) -> bool:
        """Is this who sent them?  Whatever the port: it may be translated."""
        sender = self._scatter.sender
        return sender[:2] == address[:2] and sender[4:24] == address[4:24]

    # what came whole: all pieces of one payload are there, in order

    def _sealed(self, session: Session, flags: int, count: int, counter: int, length: int) -> bool:
        """False: pieces of others may be among them."""
        scatter, plain = self._scatter, self._opened.view
        size = session.opening.into(
            counter, scatter.headers[:HEAD], scatter.payload[:length], plain
        )
        if size >= 0:
            session.opened(count)
            self._deliver(session, flags, plain[:size])
        elif count > 1:
            return False
        else:
            session.dropped("forged or replayed")
        return True

    def _clear(self, session: Session, flags: int, count: int, counter: int, length: int) -> bool:
        """Without a seal, each header has to be looked at."""
        scatter = self._scatter
        if count > 1 and bytes(scatter.headers[HEAD : HEAD * count]) != session.later(
            count, counter
        ):
            return False
        session.opening.note(counter)
        session.opened(count)
        self._deliver(session, flags, scatter.payload[:length])
        return True

    # what did not

    def _one_by_one(self, session: Session, size: int, each: int) -> None:
        """From the last to the first, for segments that are joined; others do not mind."""
        scatter, part = self._scatter, self._scatter.part
        for number in range(-(-size // each) - 1, -1, -1):
            length = min(each, size - number * each) - HEAD
            if length < 0:
                self._drop("short")
                continue
            header = scatter.headers[HEAD * number : HEAD * (number + 1)]
            payload = scatter.payload[part * number : part * number + length]
            head = framing.read(header)
            if head.type == DATA and head.receiver == session.told.index:
                if head.flags & FLAG_ALONE:
                    self._alone(session, head.counter, header, payload)
                else:
                    self._piece(session, head, bytes(header), payload)
            else:
                self._drop("no session")
        self._joined(session)

    def _piece(
        self, session: Session, head: framing.Header, header: bytes, part: memoryview
    ) -> None:
        payload: bytes | memoryview = part
        if session.opening.old(head.counter):
            return session.dropped("forged or replayed")
        if head.piece or head.pieces != 1:
            found = session.parts.add(head.counter, head.piece, head.pieces, header, bytes(part))
            if found is None:
                return None
            header, payload = found
        size = session.opening.into(head.counter, header, payload, self._opened.view)
        if size < 0:
            return session.dropped("forged or replayed")
        session.opened(header[3])
        return self._deliver(session, header[1], self._opened.view[:size])

    def _alone(
        self, session: Session, counter: int, header: memoryview, payload: memoryview
    ) -> None:
        size = len(payload) - session.opening.tag
        if size < FRONT:
            return session.dropped("short")
        try:
            opened = self._joining.add(
                lambda out: session.opening.into(counter, header, payload, out), size
            )
        except Malformed:
            return session.dropped("malformed")
        return session.opened(1) if opened else session.dropped("forged or replayed")

    def _joined(self, session: Session) -> None:
        try:
            for front, frame in self._joining.frames():
                self._into(session, front, frame)
        except Malformed:
            session.dropped("malformed")

    # frames

    def _deliver(self, session: Session, flags: int, payload: memoryview) -> None:
        if len(payload) < FRONT:
            return session.dropped("short")
        if flags & FLAG_ALONE:
            return self._one_alone(session, payload)
        if not flags & FLAG_BUNDLE:
            return self._into(session, payload, payload[FRONT:])
        at, end = FRONT, len(payload)
        while at + LENGTH.size <= end:
            (size,) = LENGTH.unpack_from(payload, at)
            at += LENGTH.size
            if at + size > end:
                return session.dropped("malformed")
            self._into(session, payload, payload[at : at + size])
            at += size
        return None

    def _one_alone(self, session: Session, payload: memoryview) -> None:
        def copied(out: memoryview) -> int:
            out[:] = payload
            return len(out)

        try:
            self._joining.add(copied, len(payload))
        except Malformed:
            return session.dropped("malformed")
        return self._joined(session)

    def _into(self, session: Session, front: bytes | memoryview, frame: memoryview) -> None:
        port = self._ports.get(PREFIX.unpack_from(front)[0] >> 8)
        if port is None:
            return session.dropped("no such network")
        size = len(frame)
        if size < vnet.SHORTEST:
            return session.dropped("short")
        if not port.sources.allows(session.told.peer, frame):
            return session.dropped("source")
        try:
            os.write(port.tap, frame)
        except OSError:  # the device is down or its queue is full, or the header lies
            return session.dropped("device")
        counts = session.counts
        counts.frames += 1
        counts.bytes += size
        return None

    def _drop(self, why: str) -> None:
        self.dropped[why] = self.dropped.get(why, 0) + 1
