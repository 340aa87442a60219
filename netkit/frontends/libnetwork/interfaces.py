"""A thread that looks what dockerd calls the interfaces that it has moved into containers.

    Join --> in the container's namespace, until it is there --> the name, by the host's end
             the pair was deleted before, and the container is known --> the lowest free name

The name is dockerd's choice, by what else the sandbox has or had, and no API of its says it.
Without it a pair that another tool deletes cannot be made anew as it was, so this is not left to
the thread that asks dockerd: it looks from the moment dockerd was given the pair.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from netkit import threads
from netkit.errors import KernelError
from netkit.model import LinkInside
from netkit.network.handover import FarEnd, lowest_free_name, seen_name

QUIET = 0.02  # seconds after Join: it is answered first, and dockerd moves the interface
SHORTEST, LONGEST = 0.01, 5.0  # seconds between looks for a name
SHARE = 0.02  # of how long it has been looked for: the pause until the next look
AT_FIRST = 0.5  # seconds in which rows are not read again: they change less often than namespaces

log = logging.getLogger("netkit.docker")


class Sandboxes(Protocol):
    """What is needed of `netkit.network`."""

    def far_end(self, sandbox_id: str) -> FarEnd | None: ...
    def name_interface(self, sandbox_id: str, ifname: str) -> None: ...


class Namespaces(Protocol):
    """What is needed of the kernel.  KernelError."""

    def links(self, ns: str) -> Collection[LinkInside]:
        """Those of the namespace at a path; none if there is no namespace."""
        ...

    def is_there(self, mark: str) -> bool:
        """Whether a link of the host has this owner mark."""
        ...


class NoNamespaces:
    """For tests without a kernel."""

    def links(self, ns: str) -> Collection[LinkInside]:
        return ()

    def is_there(self, mark: str) -> bool:
        return True


@dataclass(slots=True)
class _Search:
    since: float
    next: float
    far: FarEnd | None = None  # as it was read last


class InterfaceNames:
    """`joined` may be called on any thread; all else is done by the one of `start`."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        namespaces: Namespaces,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sandboxes = sandboxes
        self._namespaces = namespaces
        self._now = now
        self._new: set[str] = set()  # sandboxes that joined since the last look
        self._sought: dict[str, _Search] = {}
        self._wake = threading.Event()
        self._closed = False
        self._thread = threads.looping(
            "netkit-docker-interfaces", self._run, over=lambda: self._closed
        )

    def joined(self, sandbox: str) -> None:
        """dockerd was given the pair of this sandbox."""
        self._new.add(sandbox)
        self._wake.set()

    def start(self, unnamed: Collection[str] = ()) -> None:
        """`unnamed`: sandboxes that had joined before, and whose interfaces have no name yet."""
        self._new.update(unnamed)
        self._wake.set()
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(2)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self.look())
            self._wake.clear()

    def look(self) -> float | None:
        """Look for those that are due; seconds until the next look, None: for another `joined`."""
        while self._new:
            self._sought[self._new.pop()] = _Search(self._now(), self._now() + QUIET)
        for id, search in [*self._sought.items()]:
            if search.next > self._now():
                continue
            try:
                done = self._find(id, search)
            except KernelError as error:  # the container ended this moment, or is about to
                log.debug("interface of sandbox %s: %s", id[:12], error)
                done, search.far = False, None
            if done:
                del self._sought[id]
            pause = (self._now() - search.since) * SHARE
            search.next = self._now() + min(max(pause, SHORTEST), LONGEST)
        wait = min((s.next for s in self._sought.values()), default=None)
        return None if wait is None else max(wait - self._now(), 0.0)

    def _find(self, id: str, search: _Search) -> bool:
        """Look once; True when nothing is left to find out."""
        if search.far is None or self._now() - search.since > AT_FIRST:
            search.far = self._sandboxes.far_end(id)
        if (far := search.far) is None:
            return True
        links = self._namespaces.links(far.ns)
        name = seen_name(far, links)
        if not name and far.identified and links and not self._namespaces.is_there(far.mark):
            name = lowest_free_name(far, links)
            log.info("the pair of an interface in %s was deleted before its name was seen: it will "
                     "be made as %s", far.ns, name)  # fmt: skip
        if name:
            self._sandboxes.name_interface(id, name)
        return bool(name)
