"""Up, check and down of a lab that is shown: one at a time, its progress for all pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from netkit import threads
from netkit.client.failure import Failure
from netkit.errors import Busy, NetkitError
from netkit.ui.hub import Hub
from netkit.ui.keys import HUB, LAB
from netkit.ui.request import body, word
from netkit.ui.source import LabControl

LINES = 200  # of progress that are kept
LOOK = 0.5  # seconds between looks at links, at least,
SHARE = 10  # and so many times what one takes


class LabWork:
    """{"Verb", "State": "running", "done" or "failed", "Lines", "Message", "Checks"} to the hub."""

    def __init__(self, lab: LabControl, hub: Hub) -> None:
        self._lab, self._hub = lab, hub
        self._verb = ""
        self._lines: list[str] = []

    def start(self, verb: str, given: Mapping[str, Any]) -> None:
        """Busy while something is being done."""
        if self._verb:
            raise Busy(f"{self._verb} of lab {self._lab.name} is in progress")
        self._verb, self._lines = verb, []
        self._publish("running")
        threads.task(f"lab {verb}", self._work(verb, given))

    async def watch(self) -> None:
        """Look at the links of the lab, as long as there is a page."""
        while True:
            took = 0.0
            if self._hub.followed and self._verb not in {"up", "down"}:
                began = time.monotonic()
                try:
                    self._hub.links(await asyncio.to_thread(self._lab.links))
                except (NetkitError, OSError) as error:
                    self._hub.links({"": {"Impaired": "", "Drift": str(error)}})
                took = time.monotonic() - began
            await asyncio.sleep(max(LOOK, SHARE * took))

    async def _work(self, verb: str, given: Mapping[str, Any]) -> None:
        say = partial(self._report, asyncio.get_running_loop())
        try:
            found = await asyncio.to_thread(self._lab.act, verb, say, given)
        except (NetkitError, Failure, OSError) as error:
            self._publish("failed", Message=str(error))
        except BaseException:
            self._publish("failed", Message="an internal error: the command's output has it")
            raise
        else:
            self._publish("done", **found)
        finally:
            self._verb = ""

    def _report(self, loop: asyncio.AbstractEventLoop, line: str) -> None:
        threads.post(loop, "ui", self._progress, line)

    def _progress(self, line: str) -> None:
        self._lines = [*self._lines, line][-LINES:]
        self._publish("running")

    def _publish(self, state: str, **more: object) -> None:
        self._hub.lab({"Verb": self._verb, "State": state, "Lines": self._lines, **more})


WORK = web.AppKey("ui work", LabWork)


async def act(request: web.Request) -> web.StreamResponse:
    """{"verb"}: it has begun; how it goes is in the stream.  Busy."""
    given = await body(request)
    verb = word(given, "verb")
    request.app[WORK].start(verb, given)
    return web.json_response({"message": f"{verb} has begun"}, status=202)


def add(app: web.Application, base: str) -> None:
    app[WORK] = LabWork(app[LAB], app[HUB])
    app.router.add_post(f"{base}lab", act)
    app.cleanup_ctx.append(_watched)


async def _watched(app: web.Application) -> AsyncIterator[None]:
    watching = threads.task("links of the lab", app[WORK].watch())
    yield
    watching.cancel()
