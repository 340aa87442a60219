"""Keep the clients that wait for a container to exit or to be removed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable

from netkit import threads
from netkit.errors import InvalidSpec

CONDITIONS = ("not-running", "next-exit", "removed")
Outcome = tuple[int, str]


class Waiters:
    """Futures of the event loop, resolved from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting: dict[str, list[tuple[str, asyncio.Future[Outcome]]]] = {}

    def add(self, id: str, condition: str) -> Awaitable[Outcome]:
        """Register a client.  From any thread; the future belongs to the loop."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        with self._lock:
            self._waiting.setdefault(id, []).append((condition, future))
        return future

    def resolve(self, id: str, outcome: Outcome, *conditions: str) -> None:
        with self._lock:
            waiting = self._waiting.get(id, [])
            due = [f for c, f in waiting if c in conditions]
            self._waiting[id] = [(c, f) for c, f in waiting if c not in conditions]
            if not self._waiting[id]:
                del self._waiting[id]
        if due:
            threads.post(self._loop, f"answering waits for {id[:12]}", _set, due, outcome)


def _set(futures: list[asyncio.Future[Outcome]], outcome: Outcome) -> None:
    for future in futures:
        if not future.done():
            future.set_result(outcome)


def validate_condition(condition: str) -> str:
    condition = condition or "not-running"
    if condition not in CONDITIONS:
        raise InvalidSpec(f'invalid condition: "{condition}"')
    return condition
