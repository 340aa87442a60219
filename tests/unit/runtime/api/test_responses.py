"""A stream's subscription ends with its request, at whichever step that is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from runtime.api.server import responses

SUBSCRIBED: set[object] = set()


async def subscription(items: int) -> AsyncGenerator[int, None]:
    own = object()
    SUBSCRIBED.add(own)
    try:
        for item in range(items):
            await asyncio.sleep(0)
            yield item
        await asyncio.Event().wait()
    finally:
        SUBSCRIBED.discard(own)


async def request(items: int) -> None:
    stream = await responses.start_stream(subscription(items))
    async with aclosing(stream):
        await asyncio.sleep(0)  # the head goes out
        async for _ in stream:
            await asyncio.sleep(0)


@pytest.mark.parametrize("items", [0, 3])
@pytest.mark.parametrize("steps", range(12))
def test_a_cancelled_request_ends_its_subscription(steps: int, items: int) -> None:
    async def leave() -> bool:
        task = asyncio.create_task(request(items))
        for _ in range(steps):
            await asyncio.sleep(0)
        subscribed = bool(SUBSCRIBED)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert not SUBSCRIBED
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return subscribed

    assert asyncio.run(leave()) == (steps > 1)
