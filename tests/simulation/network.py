"""Time and a network in it: events in order, datagrams that are late, lost, doubled or damaged."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b


class Clock:
    """What happens, in order of time; what is due at one time, in the order it was planned.

    `trace` is a digest of all that was noted: two runs with one trace have done the same.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self._trace = blake2b(digest_size=16)

    def at(self, time: float, call: Callable[..., None], *args: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (time, self._count, call, args))

    def note(self, data: bytes) -> None:
        """Data that was handed to somebody; nonces in it tell everything that is of chance."""
        self._trace.update(data)

    @property
    def trace(self) -> str:
        return f"{self._trace.hexdigest()} at {self.now!r} after {self.events}"

    def run(self, until: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= until:
            time, _, call, args = heapq.heappop(queue)
            self.now = time
            self.events += 1
            call(*args)
        self.now = until


@dataclass(slots=True)
class Weather:
    """Shares of datagrams; seconds."""

    loss: float = 0.0
    doubled: float = 0.0
    damaged: float = 0.0
    late: float = 0.0
    latency: tuple[float, float] = (0.001, 0.02)
    late_by: float = 0.4


@dataclass(slots=True)
class Network:
    """Carries datagrams between numbered hosts.

    `blocked`: pairs (from, to) of numbers that nothing passes between.
    """

    clock: Clock
    random: random.Random
    weather: Weather = field(default_factory=Weather)
    blocked: set[tuple[int, int]] = field(default_factory=set)
    datagrams: int = 0
    octets: int = 0

    def send(
        self, source: int, target: int, size: int, deliver: Callable[..., None], *args: object
    ) -> None:
        """Call `deliver(*args)` when it arrives, if it does."""
        self.datagrams += 1
        self.octets += size
        if (source, target) in self.blocked:
            return
        chance, weather = self.random.random, self.weather
        if weather.loss and chance() < weather.loss + weather.damaged:
            return  # what is damaged is dropped by the one who finds that it is not sealed
        low, high = weather.latency
        delay = low + (high - low) * chance()
        if weather.late and chance() < weather.late:
            delay += weather.late_by * chance()
        self.clock.at(self.clock.now + delay, deliver, *args)
        if weather.doubled and chance() < weather.doubled:
            self.clock.at(self.clock.now + 2 * delay, deliver, *args)
