from __future__ import annotations

import os
import socket

from netkit.overlay.loop import Bell, Loop, now


def test_what_is_ready_is_called_and_what_was_forgotten_meanwhile_is_not() -> None:
    loop = Loop()
    pairs = [socket.socketpair(), socket.socketpair()]
    called: list[int] = []

    def act(n: int) -> None:
        called.append(n)
        loop.forget(pairs[1 - n][0].fileno())

    for n, (here, there) in enumerate(pairs):
        loop.read(here.fileno(), lambda n=n: act(n))
        there.send(b"x")
    loop.turn(now() + 5)
    assert len(called) == 1
    loop.close()
    for pair in pairs:
        for each in pair:
            each.close()


def test_a_bell_ends_a_wait() -> None:
    loop = Loop()
    bell = Bell(loop)
    os.write(bell.rope, b"x")
    begin = now()
    loop.turn(now() + 5)
    assert bell.rung
    assert now() - begin < 1
    bell.close()
    loop.close()
