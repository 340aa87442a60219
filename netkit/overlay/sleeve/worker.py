"""A worker's process: `python -m netkit.overlay.sleeve.worker transmit|receive CONTROL SOCKET`.

CONTROL is the file of a SEQPACKET socket with messages of `tables`, SOCKET that of the UDP socket
for data.  It ends with its control socket.  Two processes, because one interpreter seals and opens
on one processor at a time.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import sys
from dataclasses import replace
from threading import Thread

from netkit import threads
from netkit.overlay.sleeve import tables
from netkit.overlay.sleeve.receive import Port, Receiver, Session
from netkit.overlay.sleeve.tables import Counts, Done, PeerCounts
from netkit.overlay.sleeve.transmit import Directory, Peer, Transmitter

LONGEST = 1 << 16  # bytes of a message
MOST_FILES = 1


class Transmit:
    """Tables and loops of the process that sends: one thread a device."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._peers: dict[int, Peer] = {}
        self._directories: dict[int, Directory] = {}
        self._loops: dict[int, tuple[Transmitter, Thread, int, tuple[int, int]]] = {}

    def told(self, message: tables.Message, files: list[int]) -> None:
        """KeyError: of a network that there is not."""
        match message:
            case tables.PutPeer():
                former = self._peers.get(message.peer)
                self._peers[message.peer] = Peer.of(message, former)
            case tables.DropPeer():
                self._peers.pop(message.peer, None)
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

    def _begin(self, network: int, tap: int) -> None:
        self._end(network)
        self._directories[network] = Directory()
        wake, end = os.pipe()
        loop = Transmitter(
            network, tap, self._socket.fileno(), self._peers, lambda: self._directories[network]
        )
        thread = threads.looping(
            f"sleeve-{network}", lambda: loop.run(wake), over=lambda: network not in self._loops
        )
        self._loops[network] = loop, thread, tap, (wake, end)
        thread.start()

    def _end(self, network: int) -> None:
        if network not in self._loops:
            return
        _, thread, tap, (wake, end) = self._loops.pop(network)
        os.close(end)  # a hang-up wakes the loop
        thread.join()
        os.close(wake)
        os.close(tap)

    def counts(self) -> Counts:
        dropped: dict[str, int] = {}
        for loop, *_ in self._loops.values():
            for why, n in loop.dropped.items():
                dropped[why] = dropped.get(why, 0) + n
        return Counts({number: peer.counts for number, peer in self._peers.items()}, dropped)


class Receive:
    """Tables of the process that receives, and its loop, on the main thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sessions: dict[int, Session] = {}
        self._ports: dict[int, Port] = {}
        self._counts: dict[int, PeerCounts] = {}
        self.receiver = Receiver(sock.fileno(), self._sessions, self._ports)

    def told(self, message: tables.Message, files: list[int]) -> None:
        match message:
            case tables.PutSession():
                counts = self._counts.setdefault(message.peer, PeerCounts())
                former = self._sessions.get(message.index)
                self._sessions[message.index] = Session.of(message, former, counts)
            case tables.DropSession():
                self._sessions.pop(message.index, None)
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

    def _drop(self, network: int) -> None:
        port = self._ports.pop(network, None)
        if port is not None:
            os.close(port.tap)

    def counts(self) -> Counts:
        return Counts(dict(self._counts), dict(self.receiver.dropped))


def serve(control: socket.socket, worker: Transmit | Receive) -> None:
    """Answer messages until the other end closes; then the process ends."""
    while True:
        data, files = _receive(control)
        if not data:
            os._exit(0)  # threads may wait in the kernel
        control.send(tables.encode(_answer(worker, data, files)))


def _answer(worker: Transmit | Receive, data: bytes, files: list[int]) -> tables.Answer:
    try:
        message = tables.message(data)
        if isinstance(message, tables.AskCounts):
            return worker.counts()
        worker.told(message, files)
    except (ValueError, KeyError, IndexError, OSError) as e:
        return Done(f"{type(e).__name__}: {e}")
    finally:
        for fd in files:
            os.close(fd)
    return Done()


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    files = array.array("i")
    data, ancillary, _, _ = control.recvmsg(LONGEST, socket.CMSG_SPACE(MOST_FILES * files.itemsize))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(content[: len(content) - len(content) % files.itemsize])
    return data, list(files)


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the end comes by the socket
    role, control, data = arguments[0], int(arguments[1]), int(arguments[2])
    with socket.socket(fileno=control) as channel, socket.socket(fileno=data) as sock:
        sock.setblocking(True)
        if role == "transmit":
            serve(channel, Transmit(sock))
            return
        worker = Receive(sock)
        threads.once("sleeve-control", lambda: serve(channel, worker)).start()
        worker.receiver.run(lambda: False)


if __name__ == "__main__":
    main(sys.argv[1:])
