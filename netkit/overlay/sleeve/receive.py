"""Datagrams of all peers, opened, checked, and written to TAP devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from netkit.overlay.sleeve import framing, vnet
from netkit.overlay.sleeve.checks import Sources
from netkit.overlay.sleeve.framing import (
    COUNTER,
    DATA,
    FLAG_ALONE,
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
from netkit.overlay.sleeve.vectors import SOCKADDR, Area, Scatter, eights, packed_address

USUAL = 1472  # bytes of a datagram to begin with
PAUSE = 0.1  # seconds between two senders of a session
Header = tuple[int, int, int, int, int, int]  # as in `framing.HEADER`


@dataclass(slots=True)
class Session:
    """What comes with one index."""

    settings: PutSession
    opening: Opening
    address: bytes  # as `Scatter.sender`, of the only one where nothing is sealed
    counts: PeerCounts
    sealed: bool
    parts: Reassembly = field(default_factory=Reassembly)
    sender: bytes = b""  # that was taken last: with the port
    found: float = -inf  # when that was
    _later: memoryview = field(default_factory=lambda: memoryview(b""))
    _counters: memoryview = field(default_factory=lambda: memoryview(b""))

    @classmethod
    def of(cls, settings: PutSession, keys: Keys[Opening], counts: PeerCounts) -> Session:
        """ValueError: a key that was in use, or an address that is none."""
        address = packed_address(settings.address, 1) if settings.address else b""
        address = address and address.ljust(SOCKADDR, b"\0")
        if not settings.key and not address:
            raise ValueError("a session that is not sealed has to have an address")
        sealed = bool(settings.key)  # what is sealed says itself who sent it
        return cls(settings, keys.of(settings.key), b"" if sealed else address, counts, sealed)

    def later(self, piece: int, count: int, counter: int) -> bytes:
        """The headers of so many pieces from number `piece` on, the first one of a payload not."""
        if not self._later:
            made = (framing.header(0, n, 0, self.settings.index, 0) for n in range(MOST_PIECES))
            self._later = memoryview(bytearray(b"".join(made)))
            self._counters = self._later.cast("Q")[COUNTER // 8 :: HEAD // 8]
        self._counters[piece : piece + count] = eights(counter, count)
        return self._later[HEAD * piece : HEAD * (piece + count)].tobytes()

    def dropped(self, why: str) -> None:
        self.counts.dropped[why] = self.counts.dropped.get(why, 0) + 1


@dataclass(slots=True)
class Port:
    """A network's TAP device, and who may send into it."""

    tap: int
    sources: Sources = field(default_factory=Sources)


class Receiver:
    """`sessions` and `ports` are looked up anew for each datagram.

    `found` is called with an index and the packed address that sealed data comes from under it: of
    the first of it, and whenever newer data comes from another one.
    """

    def __init__(
        self, socket: int, sessions: dict[int, Session], ports: dict[int, Port],
        found: Callable[[int, bytes], None] = lambda index, sender: None,
    ) -> None:  # fmt: skip
        self._socket, self._sessions, self._ports = socket, sessions, ports
        self._found = found
        self._scatter = Scatter(USUAL)
        self._opened = Area(1 << 17, aligned=FRONT)
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
        header = HEADER.unpack_from(scatter.headers)
        kind, index = header[0], header[4]
        session = self._sessions.get(index)
        if session is None or kind != DATA:
            return self._drop("no session")
        sender = scatter.sender
        if sender == session.sender:
            return self._take(session, header, size, each)
        if session.sealed:
            return self._from_elsewhere(session, sender, header, size, each)
        if not self._from(session):
            return session.dropped("other sender")
        return self._take(session, header, size, each)

    def _from_elsewhere(
        self, session: Session, sender: bytes, header: Header, size: int, each: int
    ) -> None:
        """What is authentic and newer than all before says where the peer is now.

        No more than every PAUSE seconds: somebody on the path can deliver it from many addresses.
        """
        newest, now = session.opening.highest, monotonic()
        self._take(session, header, size, each)
        if session.opening.highest > newest and now >= session.found + PAUSE:
            session.sender, session.found = sender, now
            self._found(session.settings.index, sender)

    def _take(self, session: Session, header: Header, size: int, each: int) -> None:
        """Datagrams of one sender, the first of which has this header."""
        scatter = self._scatter
        _, flags, piece, pieces, _, counter = header
        count = -(-size // each)
        length = size - HEAD * count
        if length < each * (count - 1) - HEAD * (count - 1):
            return self._one_by_one(session, size, each)  # the last one is short of a header
        if piece == 0 and pieces == count:
            if session.sealed:
                whole = self._sealed(session, flags, count, counter, length)
            else:
                whole = self._clear(session, flags, count, counter, length)
            if whole:
                return None
        if count == 1 or flags & FLAG_ALONE or not self._follow(session, piece, count, counter):
            return self._one_by_one(session, size, each)
        first, run = bytes(scatter.headers[:HEAD]), bytes(scatter.payload[:length])
        return self._piece(session, piece, pieces, counter, first, run, count)

    def _follow(self, session: Session, piece: int, count: int, counter: int) -> bool:
        """Are these pieces of one payload that follow one another, from number `piece` on?"""
        if piece + count > MOST_PIECES:
            return False
        expected = session.later(piece + 1, count - 1, counter)
        return self._scatter.headers[HEAD : HEAD * count].tobytes() == expected

    def _from(self, session: Session) -> bool:
        """Is this who sent them?  Whatever the port: it may be translated."""
        sender, address = self._scatter.sender, session.address
        if sender[:2] != address[:2] or sender[4:24] != address[4:24]:
            return False
        session.sender = sender
        return True

    # what came whole: all pieces of one payload are there, in order

    def _sealed(self, session: Session, flags: int, count: int, counter: int, length: int) -> bool:
        """False: pieces of others may be among them."""
        scatter, plain = self._scatter, self._opened.view
        header = scatter.headers[:HEAD]
        size = session.opening.into(counter, header, scatter.payload[:length], plain)
        if size >= 0:
            self._deliver(session, flags, plain, size, count)
        elif count > 1:
            return False
        else:
            session.dropped("forged or replayed")
        return True

    def _clear(self, session: Session, flags: int, count: int, counter: int, length: int) -> bool:
        """Without a seal, each header has to be looked at."""
        if count > 1 and not self._follow(session, 0, count, counter):
            return False
        session.opening.note(counter)
        self._deliver(session, flags, self._scatter.payload, length, count)
        return True

    # what did not

    def _one_by_one(self, session: Session, size: int, each: int) -> None:
        """From the last to the first, for segments that are joined; others do not mind."""
        headers, payload = self._scatter.headers, self._scatter.payload
        part, index, last = self._scatter.part, session.settings.index, (size - 1) // each
        for number in range(last, -1, -1):
            at, begin, length = HEAD * number, part * number, each - HEAD
            if number == last and (length := size - each * last - HEAD) < 0:
                self._drop("short")
                continue
            kind, flags, piece, pieces, receiver, counter = HEADER.unpack_from(headers, at)
            header, data = headers[at : at + HEAD], payload[begin : begin + length]
            if kind != DATA or receiver != index:
                self._drop("no session")
            elif flags & FLAG_ALONE and pieces == 1:
                self._alone(session, counter, header, data)
            else:
                self._piece(session, piece, pieces, counter, bytes(header), data)
        self._joined(session)

    def _piece(
        self, session: Session, piece: int, pieces: int, counter: int, header: bytes,
        data: bytes | memoryview, count: int = 1,
    ) -> None:  # fmt: skip
        """So many pieces of one payload, of which the first has this header."""
        payload = data
        if session.opening.old(counter):
            return session.dropped("forged or replayed")
        if piece or pieces != count:
            found = session.parts.add(counter, piece, pieces, header, bytes(data), count)
            if found is None:
                return None
            header, payload = found
        size = session.opening.into(counter, header, payload, self._opened.view)
        if size < 0:
            return session.dropped("forged or replayed")
        return self._deliver(session, header[1], self._opened.view, size, header[3])

    def _alone(
        self, session: Session, counter: int, header: memoryview, payload: memoryview
    ) -> None:
        try:
            opened = self._joining.add(session.opening, counter, header, payload)
        except Malformed:
            return session.dropped("malformed")
        if not opened:
            return session.dropped("forged or replayed")
        session.counts.payloads += 1
        session.counts.datagrams += 1
        return None

    def _joined(self, session: Session) -> None:
        try:
            for front, frame in self._joining.frames():
                self._into(session, front, frame)
        except Malformed:
            session.dropped("malformed")

    # frames

    def _deliver(
        self, session: Session, flags: int, payload: memoryview, size: int, datagrams: int
    ) -> None:
        """A payload of `size` bytes that came in so many datagrams."""
        session.counts.payloads += 1
        session.counts.datagrams += datagrams
        if size < FRONT:
            return session.dropped("short")
        if not flags:
            return self._into(session, payload, payload[FRONT:size])
        if flags & FLAG_ALONE:
            return self._one_alone(session, payload[:size])
        at = FRONT
        while at + LENGTH.size <= size:
            (length,) = LENGTH.unpack_from(payload, at)
            at += LENGTH.size
            if at + length > size:
                return session.dropped("malformed")
            self._into(session, payload, payload[at : at + length])
            at += length
        return None

    def _one_alone(self, session: Session, payload: memoryview) -> None:
        try:
            self._joining.put(payload)
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
        if not port.sources.allows(session.settings.peer, frame):
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
