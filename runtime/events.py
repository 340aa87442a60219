"""Record events in a ring buffer, and stream them to subscribers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from netkit import threads
from runtime import limits
from runtime.filters import Filters

RING_SIZE = 256  # events kept for `since`, as in Docker
QUEUED = 4096  # events a slow client may lag behind before its stream ends


class EventBus:
    """Implements ports.Events.  `emit` may be called from any thread.

    All subscribers read the same buffer, each at its own position, so that a slow one takes no
    memory.  If its next event was dropped its stream ends; it may reconnect with `since`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._kept: deque[tuple[dict[str, Any], int]] = deque()  # with their bytes
        self._held = 0  # bytes of those
        self._first = 0  # number of the first one
        self._news: set[asyncio.Event] = set()  # one of each subscriber

    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        with self._lock:  # numbers and times must have the same order
            event = _event(type, action, id, attributes, time.time_ns())
            self._keep(event, _size(action, id, attributes))
            if self._news:
                threads.post(self._loop, f"event {action}", self._wake)

    def _keep(self, event: dict[str, Any], size: int) -> None:
        """Append an event; drops the oldest ones beyond the bounds, never the last."""
        self._kept.append((event, size))
        self._held += size
        most = QUEUED if self._news else RING_SIZE  # more for subscribers that lag behind
        while len(self._kept) > 1 and (len(self._kept) > most or self._held > limits.EVENT_BYTES):
            self._held -= self._kept.popleft()[1]
            self._first += 1

    def _wake(self) -> None:
        for news in self._news:
            news.set()

    def _end(self) -> int:
        """Number of the next event."""
        return self._first + len(self._kept)

    def _at(self, number: int) -> dict[str, Any] | None:
        """An event by number; None if it has not happened yet.  IndexError if it was dropped."""
        with self._lock:
            if number < self._first:
                raise IndexError(number)
            return self._kept[number - self._first][0] if number < self._end() else None

    async def subscribe(
        self, since: float | None, until: float, filters: Filters
    ) -> AsyncIterator[dict[str, Any]]:
        news = asyncio.Event()
        with self._lock:
            present = self._end()
            number = max(self._first, present - RING_SIZE)
            if since is None and not until:
                number = present
            self._news.add(news)
        try:
            while True:
                news.clear()
                try:
                    event = self._at(number)
                except IndexError:
                    return
                if event is None:
                    if not await _come(news, until):
                        return
                    continue
                past = number < present
                number += 1
                if past and until and event["timeNano"] > until * 1e9:
                    return
                if past and event["timeNano"] < (since or 0) * 1e9:
                    continue
                if matches(event, filters):
                    yield event
                del event  # it may be large, and the next one may take long
        finally:
            self._news.discard(news)


async def _come(news: asyncio.Event, until: float) -> bool:
    """Wait for an event; False at the time `until`."""
    left = until - time.time() if until else None
    if left is not None and left <= 0:
        return False
    try:
        await asyncio.wait_for(news.wait(), left)
    except TimeoutError:
        return False
    return True


def _size(action: str, id: str, attributes: Mapping[str, str]) -> int:
    """Estimate an event's memory in bytes; the action of an exec contains its command."""
    texts = sum(len(key) + len(value) + 100 for key, value in attributes.items())
    return texts + 2 * len(action) + len(id)


def _event(
    type: str, action: str, id: str, attributes: Mapping[str, str], ns: int
) -> dict[str, Any]:
    """Docker's JSON, with the fields from before API 1.22, which clients still read."""
    event: dict[str, Any] = {}
    if type in {"container", "image"}:
        event |= {"status": action, "id": id}
    if type == "container" and "image" in attributes:
        event["from"] = attributes["image"]
    return event | {
        "Type": type,
        "Action": action,
        "Actor": {"ID": id, "Attributes": dict(attributes)},
        "scope": "local",
        "time": ns // 1_000_000_000,
        "timeNano": ns,
    }


def matches(event: Mapping[str, Any], filters: Filters) -> bool:
    """Match by Docker's rules: OR within a filter, AND between filters; labels: AND."""
    actor = event["Actor"]
    attributes: Mapping[str, str] = actor["Attributes"]
    for name, values in filters.items():
        if not values:
            continue
        if name == "event":
            ok = any(event["Action"] == v or event["Action"].startswith(f"{v}:") for v in values)
        elif name == "type":
            ok = event["Type"] in values
        elif name == "scope":
            ok = event["scope"] in values
        elif name == "label":
            ok = all(_label(v, attributes) for v in values)
        elif name == "image":
            images = {actor["ID"], attributes.get("image", ""), attributes.get("name", "")}
            ok = event["Type"] in {"image", "container"} and any(
                v in images or f"{v}:latest" in images for v in values
            )
        else:  # container, network, volume, daemon, ...: by id, id prefix or name
            ok = event["Type"] == name and any(
                actor["ID"].startswith(v) or attributes.get("name") == v for v in values
            )
        if not ok:
            return False
    return True


def _label(wanted: str, attributes: Mapping[str, str]) -> bool:
    key, eq, value = wanted.partition("=")
    return key in attributes and (not eq or attributes[key] == value)


class Emitter(Protocol):
    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """Record an event.  From any thread."""
        ...


class Events(Emitter, Protocol):
    def subscribe(
        self, since: float | None, until: float, filters: Filters
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield past events since then, then new ones; ends at `until` if not 0.

        Without `since` there are past events only if `until` is given.
        """
        ...
