"""Follow one engine: its networks as a stream, its containers and its drift by looks.

Two threads for each, which end with `close`.  While no page is open nothing is looked at.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from netkit import threads
from netkit.client import http
from netkit.client.engine import Engine
from netkit.client.failure import Failure
from netkit.ui.hub import Hub
from netkit.ui.source import Source
from netkit.ui.state import drift

INTERVAL = 0.25  # seconds between looks of the engine at its networks
AGAIN = 1.0  # seconds between looks at containers, and until a lost engine is asked again
DRIFT = 2.0  # seconds between looks at drift, at least,
SHARE = 20  # and so many times what one takes
ENDED = "the engine ended the stream"


class Feed:
    def __init__(self, source: Source, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self._source, self._hub, self._loop = source, hub, loop
        self._over = threading.Event()
        self._changed = threading.Event()
        self._wire: http.Wire | None = None
        self._drift_due = 0.0
        acts = {"follow": self._follow, "look": self._look}
        self._threads = [
            threads.looping(f"ui-{name}-{source.name}", act, over=self._over.is_set)
            for name, act in acts.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()
        self._changed.set()
        if (wire := self._wire) is not None and isinstance(wire.sock, socket.socket):
            with suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)

    def look_now(self) -> None:
        """A page has come."""
        self._changed.set()

    def _post(self, act: Callable[..., None], *args: object) -> None:
        threads.post(self._loop, "ui", partial(act, self._source.name, *args))

    def _follow(self) -> None:
        while not self._over.is_set():
            engine = self._source.networks()
            try:
                self._stream(engine)
                why = ENDED
            except (Failure, OSError) as failure:
                why = str(failure)
            finally:
                engine.close()
            self._post(self._hub.problem, why)
            self._over.wait(AGAIN)

    def _stream(self, engine: Engine) -> None:
        answer = engine.stream("GET", "/netkit/watch", {"interval": INTERVAL, "traffic": 1})
        self._wire = answer.wire
        try:
            for found in engine.objects(answer):
                if self._over.is_set():
                    return
                self._post(self._hub.line, found)
                if found["Type"] in {"state", "change"}:
                    self._changed.set()
        finally:
            self._wire = None
            answer.wire.close()

    def _look(self) -> None:
        while not self._over.is_set():
            self._changed.wait(AGAIN)
            self._changed.clear()
            if not self._hub.followed or self._over.is_set():
                continue
            # What keeps either from being asked keeps the stream, too, which says so.
            with suppress(Failure, OSError):
                self._containers()
            with suppress(Failure, OSError):
                self._drift()

    def _containers(self) -> None:
        engine = self._source.containers()
        try:
            self._post(self._hub.containers, engine.get("/containers/json", {"all": True}))
        finally:
            engine.close()

    def _drift(self) -> None:
        began = time.monotonic()
        if began < self._drift_due:
            return
        engine = self._source.networks()
        try:
            networks = engine.get("/netkit/networks/drift")
            firewall = engine.get("/netkit/firewall/drift")
            self._post(self._hub.drift, drift(networks, firewall))
        finally:
            engine.close()
            took = time.monotonic() - began
            self._drift_due = began + took + max(DRIFT, SHARE * took)
