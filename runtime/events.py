"""What happened: a ring of the last events, and streams of what comes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from netkit import threads
from runtime import limits
from runtime.ports import Filters

REMEMBERED = 256  # as Docker; a client that wants more listens in time
QUEUED = 4096  # events a slow client may lag behind before it is cut off


class EventBus:
    """Implements ports.Events.  `emit` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._ring: deque[tuple[dict[str, Any], int]] = deque()  # with their bytes
        self._held = 0  # bytes of the ring
        self._queues: set[_Queue] = set()

    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        with self._lock:  # so that ring, queues and clock agree on the order
            event = _event(type, action, id, attributes, time.time_ns())
            self._remember(event, size := _size(attributes))
            if self._queues:
                threads.post(self._loop, f"event {action}", self._deliver, event, size)

    def _remember(self, event: dict[str, Any], size: int) -> None:
        """The last one always, those before it within bounds of number and size."""
        self._ring.append((event, size))
        self._held += size
        while len(self._ring) > 1 and (
            len(self._ring) > REMEMBERED or self._held > limits.EVENT_BYTES
        ):
            self._held -= self._ring.popleft()[1]

    def _deliver(self, event: dict[str, Any], size: int) -> None:
        for queue in self._queues:
            queue.put(event, size)

    async def subscribe(
        self, since: float | None, until: float, filters: Filters
    ) -> AsyncIterator[dict[str, Any]]:
        queue = _Queue()
        with self._lock:
            asked = since is not None or until
            past = [e for e, _ in self._ring if asked and e["timeNano"] >= (since or 0) * 1e9]
            self._queues.add(queue)
        try:
            for event in past:
                if until and event["timeNano"] > until * 1e9:
                    return
                if matches(event, filters):
                    yield event
            while True:
                left = until - time.time() if until else None
                if left is not None and left <= 0:
                    return
                try:
                    got = await asyncio.wait_for(queue.get(), left)
                except TimeoutError:
                    return
                if got is None:
                    return
                if matches(got, filters) and (not past or got not in past):
                    yield got
        finally:
            self._queues.discard(queue)


class _Queue:
    """Events on their way to one client."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[dict[str, Any] | None, int]] = asyncio.Queue()
        self._held = 0
        self._ended = False

    def put(self, event: dict[str, Any], size: int) -> None:
        """A client that lags behind too far is cut off: it may ask again with `since`."""
        if self._ended:
            return
        if self._queue.qsize() >= QUEUED or (self._held and self._held + size > limits.EVENT_BYTES):
            self._ended = True
            self._queue.put_nowait((None, 0))
            return
        self._held += size
        self._queue.put_nowait((event, size))

    async def get(self) -> dict[str, Any] | None:
        event, size = await self._queue.get()
        self._held -= size
        return event


def _size(attributes: Mapping[str, str]) -> int:
    """About the bytes of memory that the attributes take."""
    return sum(len(key) + len(value) + 100 for key, value in attributes.items())


def _event(
    type: str, action: str, id: str, attributes: Mapping[str, str], ns: int
) -> dict[str, Any]:
    """Docker's JSON, with the fields from before API 1.22 that clients of ours may still read."""
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
    """Docker's rules: values of one filter are alternatives, filters add up (labels: all)."""
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
