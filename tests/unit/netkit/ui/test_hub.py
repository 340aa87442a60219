"""What pages are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from netkit.errors import Busy
from netkit.ui import hub as module
from netkit.ui.hub import Hub, Message

FIRST = {"Type": "state", "Networks": {"n": {}}, "Endpoints": {}, "Repaired": {}}


def run(test: Callable[[Hub], Coroutine[Any, Any, None]]) -> None:
    async def running() -> None:
        await test(Hub(["h1", "h2"]))

    asyncio.run(running())


def test_a_page_gets_everything_and_then_what_changes() -> None:
    async def test(hub: Hub) -> None:
        with hub.follow() as page:
            first = await page.get()
            assert first.kind == "state"
            assert set(first.content["Engines"]) == {"h1", "h2"}
            hub.line("h1", FIRST)
            hub.line("h1", {"Type": "traffic", "Seconds": 1, "Endpoints": {}, "TimeNano": 1})
            hub.line("h1", FIRST)  # the same again is no news
            hub.problem("h2", "the engine ended the stream")
            assert [await page.get() for _ in range(3)] == [
                ("change", {"Engine": "h1", "Networks": {"n": {}}, "Problem": ""}),
                ("traffic", {"Engine": "h1", "Seconds": 1, "Endpoints": {}}),
                ("change", {"Engine": "h2", "Problem": "the engine ended the stream"}),
            ]
            assert page.empty()

    run(test)


def test_a_look_that_failed_is_over_with_the_next_one() -> None:
    async def test(hub: Hub) -> None:
        hub.line("h1", FIRST)
        hub.line("h1", {"Type": "problem", "Message": "Open vSwitch does not answer"})
        with hub.follow() as page:
            state = (await page.get()).content["Engines"]["h1"]
            assert state["Problem"] == "Open vSwitch does not answer"
            hub.line("h1", {"Type": "traffic", "Seconds": 1, "Endpoints": {}})
            assert [(await page.get()).kind, await page.get()] == [
                "traffic", Message("change", {"Engine": "h1", "Problem": ""}),
            ]  # fmt: skip

    run(test)


def test_a_page_that_is_far_behind_gets_all_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(hub: Hub) -> None:
        with hub.follow() as page:
            await page.get()
            for number in range(4):
                hub.line("h1", {"Type": "change", "Networks": {str(number): {}}})
            message = await page.get()
            assert message.kind == "state"
            assert set(message.content["Engines"]["h1"]["Networks"]) == {"0", "1", "2", "3"}

    monkeypatch.setattr(module, "BACKLOG", 3)
    run(test)


def test_a_page_that_comes_later_gets_what_the_lab_did_last() -> None:
    async def test(hub: Hub) -> None:
        hub.lab({"Verb": "check"})
        with hub.follow() as page:
            assert (await page.get()).kind == "state"
            assert await page.get() == Message("lab", {"Verb": "check"})

    run(test)


def test_links_are_sent_where_they_differ_and_to_pages_that_come_later() -> None:
    async def test(hub: Hub) -> None:
        slow = {"h1@eth0": {"Impaired": "delay 20ms", "Drift": ""}}
        with hub.follow() as page:
            await page.get()
            hub.links(slow)
            hub.links(dict(slow))
            assert await page.get() == Message("links", slow)
            assert page.empty()
        with hub.follow() as page:
            assert [(await page.get()).kind, await page.get()] == ["state", Message("links", slow)]

    run(test)


def test_pages_are_counted_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(hub: Hub) -> None:
        assert not hub.followed
        with hub.follow(), hub.follow():
            with pytest.raises(Busy, match="2 pages are open"), hub.follow():
                pass
            assert hub.followed
        assert not hub.followed

    monkeypatch.setattr(module, "PAGES", 2)
    run(test)
