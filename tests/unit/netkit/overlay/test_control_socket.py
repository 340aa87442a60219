"""How often the control plane's socket is read, by what comes in it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from netkit.overlay.control_socket import GARBAGE, MANY, PAUSE, ControlSocket
from netkit.overlay.core import Where
from netkit.overlay.loop import Loop, now
from netkit.overlay.sleeve.sockets import Pair

HOST = "127.0.0.1"


class World:
    def __init__(self) -> None:
        self.loop, self.pair = Loop(), Pair(HOST, 0)
        self.pair.control.setblocking(False)
        self.got: list[bytes] = []
        self.control = ControlSocket(self.loop, self.pair, self._receive)

    def _receive(self, datagram: bytes, source: Where, at: float) -> bool:
        self.got.append(datagram)
        return datagram != b"garbage"

    def send(self, datagram: bytes, count: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for _ in range(count):
                s.sendto(datagram, (HOST, self.pair.port))
                self.loop.turn(now())
        for _ in range(3):
            self.loop.turn(now())


@contextmanager
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.control.close()
        made.loop.close()
        made.pair.close()


def test_what_leads_to_something_is_read_at_once_however_much_it_is() -> None:
    with world() as made:
        made.send(b"\5 useful", 5 * GARBAGE)
        assert len(made.got) == 5 * GARBAGE
        assert made.control.deadline == inf


def test_under_a_flood_of_garbage_it_is_read_now_and_then_and_to_the_end() -> None:
    with world() as made:
        made.send(b"garbage", GARBAGE + 2)
        assert made.control.deadline < now() + PAUSE
        before = len(made.got)
        made.send(b"garbage", MANY + 50)
        made.send(b"\5 useful", 1)
        assert len(made.got) == before
        made.control.resume()
        for _ in range(5):
            made.loop.turn(now())
        assert made.got[-1] == b"\5 useful"
        assert len(made.got) == before + MANY + 51
        assert made.control.deadline < now() + PAUSE / 2  # more came than is usual


def test_a_look_has_an_end_where_more_comes_than_it_reads() -> None:
    with world() as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _ in range(200):
            s.sendto(b"garbage", (HOST, made.pair.port))
        made.loop.turn(now())
        assert 0 < len(made.got) < 200
