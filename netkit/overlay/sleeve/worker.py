"""A worker's process: `python -m netkit.overlay.sleeve.worker ROLE CONTROL SOCKET NEWS`.

ROLE is transmit or receive.  CONTROL is the file of a SEQPACKET socket with messages of `tables`,
SOCKET that of the UDP socket for data, NEWS that of a socket for what is sent unasked
(`tables.Source`).  It ends with its control socket.  Two processes, because one interpreter seals
and opens on one processor at a time.
"""

from __future__ import annotations

import array
import os
import queue
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from threading import Event, Thread, get_ident

from netkit import threads
from netkit.overlay.sleeve import tables
from netkit.overlay.sleeve.receive import Port, Receiver, Session
from netkit.overlay.sleeve.scheduling import schedule
from netkit.overlay.sleeve.sealing import Keys, Opening, Seal
from netkit.overlay.sleeve.tables import Counts, Done, PeerCounts, Received, Reception, Source
from netkit.overlay.sleeve.transmit import Directory, Peer, Transmitter
from netkit.overlay.sleeve.vectors import unpacked_address

LONGEST = 1 << 16  # bytes of a message
MOST_FILES = 1
NUDGE = 0.01  # seconds between signals, until a loop has looked up


class Transmit:
    """Tables and loops of the process that sends: one thread a device."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._peers: dict[int, Peer] = {}
        self._counts: dict[int, PeerCounts] = {}
        self._keys: Keys[Seal] = Keys(Seal)
        self._directories: dict[int, Directory] = {}
        self._loops: dict[int, tuple[Transmitter, Thread, int, tuple[Event, Event]]] = {}
        signal.signal(signal.SIGUSR1, lambda *_: None)  # interrupts the call that waits

    def apply(self, message: tables.Message, files: list[int]) -> None:
        """KeyError: of a network that there is not.  ValueError."""
        try:
            self._received(message, files)
        finally:
            for loop, *_ in self._loops.values():
                loop.changed()

    def _received(self, message: tables.Message, files: list[int]) -> None:
        match message:
            case tables.PutPeer():
                counts = self._counts.setdefault(message.peer, PeerCounts())
                self._replace(message.peer, Peer.of(message, self._keys, counts))
            case tables.DropPeer():
                self._replace(message.peer, None)
                self._counts.pop(message.peer, None)
            case tables.PutNetwork():
                self._begin(message.network, files.pop())
            case tables.DropNetwork():
                self._end(message.network)
            case tables.PutHost():
                self._directories[message.network].hosts[message.mac] = message.peer
            case tables.DropHost():
                self._directories[message.network].hosts.pop(message.mac, None)
            case tables.Members():
                old = self._directories[message.network]
                self._directories[message.network] = replace(old, members=message.peers)
            case _:
                return  # of the other worker

    def _replace(self, number: int, peer: Peer | None) -> None:
        former = self._peers.get(number)
        if peer is not None:
            self._peers[number] = peer
        else:
            self._peers.pop(number, None)
        if former is not None and (peer is None or peer.settings.key != former.settings.key):
            self._keys.forget(former.settings.key)

    def _begin(self, network: int, tap: int) -> None:
        self._end(network)
        self._directories[network] = Directory()
        loop = Transmitter(
            network, tap, self._socket.fileno(), self._peers, lambda: self._directories[network]
        )

        thread, left, joined = _device(loop, lambda: network not in self._loops)
        self._loops[network] = loop, thread, tap, (left, joined)
        thread.start()

    def _end(self, network: int) -> None:
        if network not in self._loops:
            return
        _, thread, tap, (left, joined) = self._loops.pop(network)
        while thread.is_alive() and not left.wait(NUDGE):  # a signal may come before the call
            signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
        joined.set()
        thread.join()
        os.close(tap)
        del self._directories[network]

    def counts(self) -> Counts:
        dropped: dict[str, int] = {}
        for loop, *_ in list(self._loops.values()):
            for why, n in list(loop.dropped.items()):
                dropped[why] = dropped.get(why, 0) + n
        return Counts(dict(self._counts), dropped)

    def received(self) -> Reception:
        return Reception()

    def answer(self, data: bytes, files: list[int]) -> tables.Answer:
        return answered(self, data, files)


def _device(loop: Transmitter, over: Callable[[], bool]) -> tuple[Thread, Event, Event]:
    """(a thread, it left the loop, it may end): until then it can be sent signals."""
    left, joined = Event(), Event()

    def act() -> None:
        loop.run(over)
        left.set()
        joined.wait()

    return threads.looping("sleeve-device", act, over=over), left, joined


class Receive:
    """Tables of the process that receives, and its loop, on the main thread.

    Only that thread changes tables and closes files, so no frame is written to a file that has
    become another's meanwhile.
    """

    def __init__(self, sock: socket.socket, news: socket.socket) -> None:
        self._sessions: dict[int, Session] = {}
        self._ports: dict[int, Port] = {}
        self._counts: dict[int, PeerCounts] = {}
        self._missing: dict[int, int] = {}  # by peer, of sessions that are over
        self._asked: dict[int, int] = {}  # by peer, datagrams as of `received`
        self._news = news
        self._keys: Keys[Opening] = Keys(Opening)
        self._letters: queue.SimpleQueue[tuple[bytes, list[int], list[tables.Answer], Event]]
        self._letters = queue.SimpleQueue()
        self._main = get_ident()
        signal.signal(signal.SIGUSR1, lambda *_: None)  # interrupts the call that waits
        self._receiver = Receiver(sock.fileno(), self._sessions, self._ports, self._found)

    def run(self) -> None:
        """For ever."""
        self._receiver.run(self._looked_up)

    def _looked_up(self) -> bool:
        while not self._letters.empty():
            data, files, answers, done = self._letters.get_nowait()
            answers.append(answered(self, data, files))
            done.set()
        return False

    def answer(self, data: bytes, files: list[int]) -> tables.Answer:
        """From another thread."""
        answers: list[tables.Answer] = []
        done = Event()
        self._letters.put((data, files, answers, done))
        while True:  # a signal may come right before the system call
            signal.pthread_kill(self._main, signal.SIGUSR1)
            if done.wait(NUDGE):
                return answers[0]

    def apply(self, message: tables.Message, files: list[int]) -> None:
        """KeyError: of a network that there is not.  ValueError."""
        match message:
            case tables.PutSession():
                counts = self._counts.setdefault(message.peer, PeerCounts())
                self._replace(message.index, Session.of(message, self._keys, counts))
            case tables.DropSession():
                self._replace(message.index, None)
            case tables.DropPeer():
                self._counts.pop(message.peer, None)
                self._missing.pop(message.peer, None)
                self._asked.pop(message.peer, None)
            case tables.PutNetwork():
                self._drop(message.network)
                self._ports[message.network] = Port(files.pop())
            case tables.DropNetwork():
                self._drop(message.network)
            case tables.PutHost():
                sources = self._ports[message.network].sources
                sources.put(message.mac, message.peer, message.addresses)
            case tables.DropHost():
                self._ports[message.network].sources.drop(message.mac)
            case _:
                return

    def _replace(self, index: int, session: Session | None) -> None:
        former = self._sessions.pop(index, None)
        if session is not None:
            self._sessions[index] = session
        if former is not None and (session is None or session.settings.key != former.settings.key):
            peer = former.settings.peer
            self._missing[peer] = self._missing.get(peer, 0) + former.opening.missing
            self._keys.forget(former.settings.key)

    def _drop(self, network: int) -> None:
        port = self._ports.pop(network, None)
        if port is not None:
            os.close(port.tap)

    def counts(self) -> Counts:
        self._count_missing()
        return Counts(dict(self._counts), dict(self._receiver.dropped))

    def received(self) -> Reception:
        self._count_missing()
        found = {
            peer: Received(counts.payloads, counts.datagrams, counts.missing)
            for peer, counts in self._counts.items()
            if counts.datagrams != self._asked.get(peer, 0)
        }
        self._asked |= {peer: received.datagrams for peer, received in found.items()}
        return Reception(found)

    def _count_missing(self) -> None:
        for peer, counts in self._counts.items():
            counts.missing = self._missing.get(peer, 0)
        for session in self._sessions.values():
            session.counts.missing += session.opening.missing

    def _found(self, index: int, sender: bytes) -> None:
        """Report, unless too much waits to be read: it is reported again with the next change."""
        with suppress(OSError):
            self._news.send(tables.encode(Source(index, *unpacked_address(sender))))


def answered(worker: Transmit | Receive, data: bytes, files: list[int]) -> tables.Answer:
    """Have a message in force; files that it does not take are closed."""
    try:
        message = tables.message(data)
        if isinstance(message, tables.AskCounts):
            return worker.counts()
        if isinstance(message, tables.AskReceived):
            return worker.received()
        worker.apply(message, files)
    except (ValueError, KeyError, IndexError, OSError) as e:
        return Done(f"{type(e).__name__}: {e}")
    finally:
        for fd in files:
            os.close(fd)
    return Done()


def serve(control: socket.socket, worker: Transmit | Receive) -> None:
    """Answer messages until the other end closes; then the process ends."""
    while True:
        data, files = _receive(control)
        if not data:
            os._exit(0)  # threads may wait in the kernel
        control.send(tables.encode(worker.answer(data, files)))


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    files = array.array("i")
    space = socket.CMSG_SPACE(MOST_FILES * files.itemsize)
    try:
        data, ancillary, _, _ = control.recvmsg(LONGEST, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(content[: len(content) - len(content) % files.itemsize])
    return data, list(files)


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the end comes by the socket
    role, (control, data, unasked) = arguments[0], map(int, arguments[1:])
    with (
        socket.socket(fileno=control) as channel,
        socket.socket(fileno=data) as sock,
        socket.socket(fileno=unasked) as news,
    ):
        sock.setblocking(True)
        news.setblocking(False)
        schedule(receives=role == "receive")
        if role == "transmit":
            serve(channel, Transmit(sock))
            return
        worker = Receive(sock, news)
        threads.once("sleeve-control", lambda: serve(channel, worker)).start()
        worker.run()


if __name__ == "__main__":
    main(sys.argv[1:])
