"""Events keep little in memory, however large the labels of containers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runtime import limits
from runtime.events import RING_SIZE, EventBus


async def past(bus: EventBus) -> list[str]:
    """Ids of the events that a client gets which asks for all of them."""
    found = []
    stream = bus.subscribe(1.0, 4e9, {})
    try:
        while True:
            found.append(str((await asyncio.wait_for(anext(stream), 0.02))["id"]))
    except TimeoutError:
        return found


def test_a_few_large_events_or_many_small_ones_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "EVENT_BYTES", 100_000)

    async def scenario() -> None:
        bus = EventBus(asyncio.get_running_loop())
        for n in range(RING_SIZE + 5):
            bus.emit("container", "start", f"s{n}", {"a": "b"})
        assert await past(bus) == [f"s{n}" for n in range(5, RING_SIZE + 5)]
        for n in range(4):
            bus.emit("container", "start", f"l{n}", {"a": "b" * 45_000})
        assert await past(bus) == ["l2", "l3"]
        bus.emit("container", "start", "huge", {"a": "b" * 200_000})
        assert await past(bus) == ["huge"]

    asyncio.run(scenario())


def test_a_client_that_reads_nothing_is_cut_off_and_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "EVENT_BYTES", 100_000)

    async def scenario() -> None:
        bus = EventBus(asyncio.get_running_loop())
        stream: AsyncIterator[dict[str, Any]] = bus.subscribe(None, 0, {})
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for n in range(3):
            bus.emit("container", "start", str(n), {"a": "b" * 30_000})
        await asyncio.sleep(0)
        assert (await first)["id"] == "0"
        for n in range(3, 6):
            bus.emit("container", "start", str(n), {"a": "b" * 50_000})
        await asyncio.sleep(0)
        assert [event async for event in stream] == []

    asyncio.run(scenario())


def test_the_command_of_an_exec_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVENT_BYTES", 100_000)

    async def scenario() -> None:
        bus = EventBus(asyncio.get_running_loop())
        for n in range(4):
            bus.emit("container", f"exec_create: {'x' * 30_000}", str(n), {})
        assert await past(bus) == ["3"]

    asyncio.run(scenario())
