"""Streams of what changes: snapshots that are compared, shared by all who watch.

Nothing is remembered but the last snapshot that each client received.  One that reads slowly gets
fewer and larger changes, and a change that was undone meanwhile is none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from netkit.errors import Busy, InvalidSpec, NetkitError
from netkit.kernel.netlink.counters import CountedLink, Counters
from netkit.spec import EndpointRecord, NetworkRecord
from runtime import limits
from runtime.shared_reads import SharedReads
from runtime.watch.snapshot import Snapshot, changes, endpoint, network, traffic

SHORTEST, LONGEST = 0.2, 60.0  # seconds between comparisons


class Networks(Protocol):
    """See netkit.network.controller.Controller."""

    def all(self) -> list[NetworkRecord]: ...
    def endpoints(self) -> list[EndpointRecord]: ...


class WatchService:
    """Implements ports.Watch.

    `links`: those of this engine, each with an owner mark `netkit:ENGINE:NETWORK[:ENDPOINT]`.
    `repaired`: how often drift was repaired, by what is looked after.
    """

    def __init__(
        self,
        networks: Networks,
        peers: Callable[[NetworkRecord], list[dict[str, str]]],
        links: Callable[[], Iterable[CountedLink]],
        repaired: Callable[[], Mapping[str, int]],
    ) -> None:
        self._networks, self._peers = networks, peers
        self._links, self._repaired = links, repaired
        self._watching = 0
        self._reads = {
            counted: SharedReads(
                partial(self._read, counted), what="networks", thread="netkit-watch",
                seconds=lambda: limits.WATCH_SECONDS,
            )
            for counted in (False, True)
        }  # fmt: skip

    async def watch(self, interval: float, *, counted: bool) -> AsyncIterator[dict[str, Any]]:
        """A line with all, then one for each interval in which something changed.

        `interval` in seconds; longer where a snapshot takes that long.  With `counted` there is a
        line of traffic for each interval, too.  InvalidSpec, Busy where too many watch; a
        NetkitError of the first snapshot ends it, a later one is a line of its own.
        """
        if not SHORTEST <= interval <= LONGEST:
            raise InvalidSpec(
                f"invalid interval {interval:g}: must be from {SHORTEST:g} to {LONGEST:g} s"
            )
        if self._watching >= limits.WATCHERS:
            raise Busy(f"{limits.WATCHERS} clients watch already: end one, or try again later")
        self._watching += 1
        try:
            reads = self._reads[counted]
            before = await reads.last()
            yield _line("state", before.complete())
            while True:
                await asyncio.sleep(interval)
                try:
                    after = await reads.last()
                except NetkitError as error:
                    yield _line("problem", {"Message": str(error)})
                    continue
                if after is before:  # it took so long that it is not repeated yet
                    continue
                if found := changes(before, after):
                    yield _line("change", found)
                if counted:
                    yield _line("traffic", traffic(before, after))
                before = after
        finally:
            self._watching -= 1

    def _read(self, counted: bool) -> Snapshot:
        records = self._networks.all()
        endpoints = self._networks.endpoints()
        return Snapshot(
            networks={r.id: network(r, self._peers(r)) for r in records},
            endpoints={r.id: endpoint(r) for r in endpoints},
            repaired=dict(self._repaired()),
            traffic=self._counters(endpoints) if counted else {},
            at=time.monotonic(),
        )

    def _counters(self, endpoints: Iterable[EndpointRecord]) -> dict[str, Counters]:
        ids = {r.id[:12]: r.id for r in endpoints}
        marked = ((link.of[1], link.counters) for link in self._links())
        return {ids[short]: counters for short, counters in marked if short in ids}

    def close(self) -> None:
        for reads in self._reads.values():
            reads.close()


def _line(type: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"Type": type, "TimeNano": time.time_ns(), **content}
