"""A stream of what changes: shared snapshots, bounds, and errors on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from netkit.errors import Busy, InvalidSpec, KernelError
from netkit.kernel.netlink.counters import CountedLink, Counters
from netkit.spec import EndpointRecord, NetworkRecord
from runtime import limits, shared_reads
from runtime.watch import service
from runtime.watch.service import WatchService
from tests.unit.runtime.watch.test_snapshot import ENDPOINT, NET, NETWORK, WEB


class Rows:
    def __init__(self) -> None:
        self.endpoints_: list[EndpointRecord] = []
        self.reads = 0
        self.error = ""
        self.open = threading.Event()
        self.open.set()
        self.bytes = 0

    def all(self) -> list[NetworkRecord]:
        self.reads += 1
        self.open.wait()
        if self.error:
            raise KernelError(self.error)
        return [NETWORK]

    def endpoints(self) -> list[EndpointRecord]:
        return list(self.endpoints_)

    def links(self) -> list[CountedLink]:
        counters = Counters(0, 0, 0, self.bytes, 0, 0, 0, 0)
        return [CountedLink("veth0", f"netkit:0:{NET[:12]}:{WEB[:12]}", "veth", counters),
                CountedLink("br0", f"netkit:0:{NET[:12]}", "bridge", counters)]  # fmt: skip


def run(use: Callable[[Rows, WatchService], Awaitable[None]]) -> None:
    async def main() -> None:
        rows = Rows()
        watching = WatchService(rows, lambda _: [], rows.links, lambda: {"links": 0})
        try:
            await asyncio.wait_for(use(rows, watching), 20)
        finally:
            rows.open.set()
            watching.close()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SHORTEST", 0.001)
    monkeypatch.setattr(shared_reads, "SHARE", 1)


async def content(lines: AsyncIterator[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    found = await anext(lines)
    assert found.pop("TimeNano") > 0
    return found.pop("Type"), found


def test_all_comes_first_and_then_what_changes() -> None:
    async def use(rows: Rows, watching: WatchService) -> None:
        async with aclosing(watching.watch(0.001, counted=False)) as lines:
            kind, found = await content(lines)
            assert (kind, list(found["Networks"]), found["Endpoints"]) == ("state", [NET], {})
            rows.endpoints_ = [ENDPOINT]
            kind, found = await content(lines)
            assert (kind, list(found), list(found["Endpoints"])) == ("change", ["Endpoints"], [WEB])
            rows.endpoints_ = []
            assert await content(lines) == ("change", {"Endpoints": {WEB: None}})

    run(use)


def test_traffic_comes_with_each_interval() -> None:
    async def use(rows: Rows, watching: WatchService) -> None:
        rows.endpoints_ = [ENDPOINT]
        async with aclosing(watching.watch(0.001, counted=True)) as lines:
            assert (await content(lines))[0] == "state"
            rows.bytes = 500
            while not (found := (await content(lines))[1])["Endpoints"]:
                pass
            assert found["Endpoints"][WEB]["ReceiveBytes"] == 500

    run(use)


def test_an_error_is_a_line_and_the_stream_goes_on() -> None:
    async def use(rows: Rows, watching: WatchService) -> None:
        async with aclosing(watching.watch(0.001, counted=False)) as lines:
            await content(lines)
            rows.error = "the kernel does not answer"
            assert await content(lines) == ("problem", {"Message": rows.error})
            rows.error, rows.endpoints_ = "", [ENDPOINT]
            while (found := await content(lines))[0] == "problem":
                pass
            assert list(found[1]["Endpoints"]) == [WEB]
        rows.error = "still not"
        with pytest.raises(KernelError, match="still not"):
            await anext(watching.watch(0.001, counted=False))

    run(use)


def test_all_who_ask_at_a_time_share_a_snapshot() -> None:
    async def use(rows: Rows, watching: WatchService) -> None:
        rows.open.clear()
        streams = [watching.watch(1, counted=False) for _ in range(10)]
        first = [asyncio.ensure_future(anext(s)) for s in streams]
        await asyncio.sleep(0.02)
        rows.open.set()
        assert {f["Type"] for f in await asyncio.gather(*first)} == {"state"}
        assert rows.reads == 1
        for stream in streams:
            await stream.aclose()

    run(use)


def test_a_snapshot_that_took_long_is_not_compared_with_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_reads, "SHARE", 10**9)

    async def use(rows: Rows, watching: WatchService) -> None:
        async with aclosing(watching.watch(0.001, counted=True)) as lines:
            assert (await content(lines))[0] == "state"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(lines), 0.05)
        assert rows.reads == 1

    run(use)


def test_there_are_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS", 2)

    async def use(_: Rows, watching: WatchService) -> None:
        for interval in (0.0, 61.0, float("nan"), -1.0):
            with pytest.raises(InvalidSpec, match="invalid interval"):
                await anext(watching.watch(interval, counted=False))
        streams = [watching.watch(1, counted=False) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Busy, match="2 clients watch already"):
            await anext(watching.watch(1, counted=False))
        await streams.pop().aclose()
        async with aclosing(watching.watch(1, counted=False)) as another:
            await anext(another)
        await streams.pop().aclose()

    run(use)
