"""Up, check and down: one at a time, and sent to all pages."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from netkit.diagnose.trace.join import Trace
from netkit.errors import Busy, Conflict
from netkit.ui.hub import Hub, Message
from netkit.ui.lab import LabWork


class Rehearsed:
    """A lab of which `up` waits until it may go on."""

    name = "two"

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def document(self) -> Mapping[str, Any]:
        return {}

    def trace(self, source: str, target: str, service: str) -> Trace | None:
        return None

    def links(self) -> Mapping[str, Mapping[str, str]]:
        return {}

    def act(
        self, verb: str, say: Callable[[str], None], given: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        if verb == "down":
            raise Conflict("another process changes it")
        if verb == "check":
            raise ZeroDivisionError
        say("h1: up")
        assert self.go_on.wait(20)
        return {"Message": "it is up"}


def run(verb: str, *, other: str = "") -> list[Mapping[str, Any]]:
    """What pages get of it; `other` is refused meanwhile."""

    async def running() -> list[Mapping[str, Any]]:
        lab, hub = Rehearsed(), Hub(["h1"])
        work, found = LabWork(lab, hub), list[Mapping[str, Any]]()
        with hub.follow() as page:
            assert isinstance(await page.get(), Message)
            work.start(verb, {})
            if other:
                with pytest.raises(Busy, match=f"{verb} of lab two is in progress"):
                    work.start(other, {})
            lab.go_on.set()
            while not found or found[-1]["State"] == "running":
                found.append((await asyncio.wait_for(page.get(), 20)).content)
            await asyncio.sleep(0)
            work.start("down", {})  # the next one may begin
        return found

    return asyncio.run(running())


def test_progress_and_the_result_are_sent_and_nothing_else_begins() -> None:
    found = run("up", other="down")
    assert [each["State"] for each in found] == ["running", "running", "done"]
    assert found[1]["Lines"] == ["h1: up"]
    assert (found[2]["Verb"], found[2]["Message"]) == ("up", "it is up")


def test_a_failure_is_shown_with_its_reason() -> None:
    last = run("down")[-1]
    assert (last["State"], last["Message"]) == ("failed", "another process changes it")


def test_a_defect_is_shown_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        last = run("check")[-1]
    assert (last["State"], "internal error" in last["Message"]) == ("failed", True)
    assert "lab check failed: unexpected ZeroDivisionError" in caplog.text
