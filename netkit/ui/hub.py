"""The state of all engines shown, and the pages that follow it.  On the event loop alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from netkit.errors import Busy
from netkit.ui.state import EngineState

BACKLOG = 256  # messages that a page may be behind; one that is more gets all anew
PAGES = 16  # that follow at a time


class Message(NamedTuple):
    kind: str  # state, change, traffic, links, lab
    content: Mapping[str, Any]


class Hub:
    def __init__(self, names: Iterable[str], document: Mapping[str, Any] | None = None) -> None:
        """`document`: of the lab that is shown (LabControl), if it is one."""
        self._document = document
        self._states = {name: EngineState() for name in names}
        self._pages: set[asyncio.Queue[Message]] = set()
        self._lab: Mapping[str, Any] = {}
        self._links: Mapping[str, Any] = {}

    @property
    def followed(self) -> bool:
        """Is there a page?"""
        return bool(self._pages)

    def line(self, name: str, found: Mapping[str, Any]) -> None:
        """Of an engine's `GET /netkit/watch`."""
        match found["Type"]:
            case "traffic":
                moved = {"Seconds": found["Seconds"], "Endpoints": found["Endpoints"]}
                self._send(Message("traffic", {"Engine": name, **moved}))
                self._change(name, self._states[name].set("Problem", ""))  # a look that failed
            case "problem":
                self.problem(name, str(found["Message"]))
            case _:
                state = self._states[name]
                self._change(name, state.line(found) | state.set("Problem", ""))

    def problem(self, name: str, why: str) -> None:
        self._change(name, self._states[name].set("Problem", why))

    def containers(self, name: str, listed: list[dict[str, Any]]) -> None:
        self._change(name, self._states[name].containers(listed))

    def drift(self, name: str, found: list[dict[str, Any]]) -> None:
        self._change(name, self._states[name].set("Drift", found))

    def lab(self, found: Mapping[str, Any]) -> None:
        """What a lab does, or the result of what it did; a page that comes later gets it, too."""
        self._lab = found
        self._send(Message("lab", found))

    def links(self, found: Mapping[str, Any]) -> None:
        """Those of the lab, all of them (LabControl.links)."""
        if found != self._links:
            self._links = found
            self._send(Message("links", found))

    @contextmanager
    def follow(self) -> Iterator[asyncio.Queue[Message]]:
        """Everything, then what changes, for one page.  Busy where there are too many."""
        if len(self._pages) >= PAGES:
            raise Busy(f"{PAGES} pages are open already: close one")
        queue: asyncio.Queue[Message] = asyncio.Queue(BACKLOG)
        self._pages.add(queue)
        self._begin(queue)
        try:
            yield queue
        finally:
            self._pages.discard(queue)

    def _begin(self, queue: asyncio.Queue[Message]) -> None:
        while not queue.empty():
            queue.get_nowait()
        engines = {name: state.complete for name, state in self._states.items()}
        queue.put_nowait(Message("state", {"Engines": engines, "Lab": self._document}))
        if self._links:
            queue.put_nowait(Message("links", self._links))
        if self._lab:
            queue.put_nowait(Message("lab", self._lab))

    def _change(self, name: str, content: Mapping[str, Any]) -> None:
        if content:
            self._send(Message("change", {"Engine": name, **content}))

    def _send(self, message: Message) -> None:
        for queue in self._pages:
            if queue.full():
                self._begin(queue)
            else:
                queue.put_nowait(message)
