"""The request object that handlers get, with typed access to query and body."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from aiohttp import web

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.api import query
from runtime.api.backend.engine import Engine
from runtime.api.server import gojson
from runtime.api.server.admission import BODIES, TimedOut
from runtime.api.server.executors import Executors
from runtime.api.server.upgrade_guard import want_body
from runtime.api.version import ApiVersion

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    request: web.Request
    engine: Engine
    executors: Executors
    api: ApiVersion
    args: Mapping[str, str]  # named parts of the path

    @property
    def ref(self) -> str:
        return self.args["ref"]

    @property
    def now(self) -> float:
        return time.time()

    def text(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def query_list(self, name: str) -> list[str]:
        return list(self.request.query.getall(name, []))

    def flag(self, name: str, default: bool = False) -> bool:
        given = self.request.query.get(name)
        return default if given is None else query.boolean(given)

    def number(self, name: str) -> int | None:
        given = self.text(name)
        return query.integer(name, given) if given else None

    def extent(self, name: str) -> int:
        """Height or width of a terminal, in characters; 32 bits, as in Docker."""
        value = self.number(name)
        if value is None:
            raise InvalidSpec(f"resize needs {name}: h and w, the height and width in characters")
        if not 0 <= value < 1 << 32:
            raise InvalidSpec(f"invalid resize {name} {value}: must be from 0 to {(1 << 32) - 1}")
        return value

    def filters(self, allowed: Collection[str]) -> dict[str, list[str]]:
        return query.filters(self.text("filters"), allowed)

    def prune_filters(self, *extra: str) -> dict[str, list[str]]:
        return query.prune_filters(self.text("filters"), extra, self.now)

    async def raw_body(self) -> bytes:
        """The body of a JSON request; b"" if there is none.  InvalidSpec for another type,
        TimedOut for one that arrives too slowly."""
        kind = self.request.headers.get("Content-Type", "")
        if not self.request.body_exists and not kind:
            return b""
        if kind.partition(";")[0].strip().lower() != "application/json":
            if not self.request.body_exists or self.request.content_length == 0:
                return b""
            raise InvalidSpec(
                f"unsupported Content-Type header ({kind}): must be 'application/json'"
            )
        length = self.request.content_length
        size = limits.BODY_BYTES if length is None else min(length, limits.BODY_BYTES)
        bodies, loop = self.request.app[BODIES], asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.BODY_SECONDS) as timeout:
                # if others wait and this body is late, its timeout expires at once
                await bodies.take(id(self.request), size, lambda: timeout.reschedule(loop.time()))
                want_body(self.request)
                body = await self.request.read()
                bodies.received(id(self.request))
                return body
        except TimeoutError:
            raise TimedOut(
                f"the JSON body did not arrive within {limits.BODY_SECONDS} s, or within one "
                "second while others waited"
            ) from None
        except web.HTTPRequestEntityTooLarge:
            raise InvalidSpec(
                f"the JSON body is too large: {limits.BODY_BYTES >> 20} MiB at most"
            ) from None

    async def body(self, kind: type[T], *, optional: bool = False) -> T:
        """Decode the JSON body; with `optional` an absent one has all zero values."""
        raw = await self.raw_body()
        if optional and not raw:
            return kind()
        return gojson.decode(raw, kind)


Handler = Callable[[ApiRequest], Awaitable[web.StreamResponse]]
