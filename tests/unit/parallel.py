"""What keeps runs of tests on one machine apart that use its network at the same time."""

from __future__ import annotations

import atexit
import socket

FIRST = 21900  # a port for each run
RUNS = 100


def _reserved() -> tuple[int, socket.socket]:
    for number in range(RUNS):
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", FIRST + number))
        except OSError:
            held.close()
        else:
            return number, held
    raise OSError(f"{RUNS} runs of tests at a time, or ports from {FIRST} are in use")


RUN, _held = _reserved()  # 0 to 99: no other run has it as long as this process lives
atexit.register(_held.close)
