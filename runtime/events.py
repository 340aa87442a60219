"""What happened: a ring of the last events, and streams of what comes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from runtime.ports import Filters

REMEMBERED = 256  # as Docker; a client that wants more listens in time
QUEUED = 4096  # events a slow client may lag behind before it is cut off


class EventBus:
    """Implements ports.Events.  `emit` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._ring: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._queues: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        with self._lock:  # so that ring, queues and clock agree on the order
            event = _event(type, action, id, attributes, time.time_ns())
            self._ring.append(event)
            if self._queues and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._deliver, event)

    def _deliver(self, event: dict[str, Any]) -> None:
        for queue in self._queues:
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                queue.get_nowait()
                queue.put_nowait(None)  # the end: the client may ask again with `since`

    async def subscribe(
        self, since: float, until: float, filters: Filters
    ) -> AsyncIterator[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(QUEUED)
        with self._lock:
            past = [e for e in self._ring if since and e["timeNano"] >= since * 1e9]
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
            if name == "container" and event["Type"] == "network":
                ok = any(attributes.get("container", "").startswith(v) for v in values)
        if not ok:
            return False
    return True


def _label(wanted: str, attributes: Mapping[str, str]) -> bool:
    key, eq, value = wanted.partition("=")
    return key in attributes and (not eq or attributes[key] == value)
