"""The page's server, asked over loopback; its engine answers from a table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar

from netkit.client.endpoint import parse_host
from netkit.ui.guard import Guard
from netkit.ui.server import application, listening, serve
from netkit.ui.source import HERE, Source
from tests.unit.netkit.cli.cli_fake_daemon import ID, FakeDaemon, anywhere

pytestmark = pytest.mark.slow
PATIENCE = 30  # seconds


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with anywhere() as server:
        yield server


class Page:
    """A browser's side: `session` has cookies, as the link left them."""

    def __init__(self, guard: Guard, session: ClientSession) -> None:
        self.guard, self.session = guard, session
        self.own = f"http://127.0.0.1:{guard.port}"

    async def open(self) -> None:
        async with self.session.get(self.guard.url) as answer:
            assert answer.status == 200, await answer.text()

    async def get(self, name: str, **headers: str) -> ClientResponse:
        answer = await self.session.get(f"{self.own}{self.guard.base}{name}", headers=headers)
        await answer.read()
        return answer

    async def post(self, name: str, body: object) -> ClientResponse:
        answer = await self.session.post(
            f"{self.own}{self.guard.base}{name}", json=body, headers={"Origin": self.own}
        )
        await answer.read()
        return answer


@asynccontextmanager
async def served(daemon: FakeDaemon) -> AsyncIterator[Page]:
    endpoint = parse_host(f"unix://{daemon.server_address!s}", None)
    source = Source(name=HERE, netkit=endpoint, engine=endpoint)
    with listening(0) as sock:
        guard = Guard(port=sock.getsockname()[1])
        serving = asyncio.create_task(serve(application(guard, [source], None), sock))
        try:
            async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
                yield Page(guard, session)
        finally:
            serving.cancel()
            await asyncio.wait({serving})


def run(daemon: FakeDaemon, test: Callable[[Page], Awaitable[None]]) -> None:
    async def running() -> None:
        async with asyncio.timeout(PATIENCE), served(daemon) as page:
            await test(page)

    asyncio.run(running())


def test_nothing_is_served_before_the_link_was_opened(daemon: FakeDaemon) -> None:
    async def test(page: Page) -> None:
        names = ("", "page.mjs", "events", "trace", "container?engine=here&id=web", "nosuch")
        for name in names:
            answer = await page.get(name)
            assert (answer.status, answer.headers["Content-Security-Policy"]) == (
                401, "default-src 'self'; base-uri 'none'; form-action 'none'; "
                "object-src 'none'; frame-ancestors 'none'",
            )  # fmt: skip
            assert "netkit ui" in await answer.text()
        assert (await page.post("trace", {})).status == 401
        assert (await page.get("", Host="rebound.example")).status == 403

    run(daemon, test)


def test_the_link_leads_to_the_page_without_the_token(daemon: FakeDaemon) -> None:
    async def test(page: Page) -> None:
        answer = await page.session.get(page.guard.url, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, page.guard.base)
        cookie = answer.headers["Set-Cookie"]
        assert f"Path={page.guard.base}" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        for name, kind in (("", "text/html"), ("page.mjs", "text/javascript")):
            found = await page.get(name)
            assert (found.status, found.content_type) == (200, kind)
            assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert (await page.get("..%2fguard.py")).status == 404
        assert (await page.get("nosuch")).status == 404

    run(daemon, test)


def test_the_stream_begins_with_all_and_says_that_an_engine_is_lost(daemon: FakeDaemon) -> None:
    """The fake engine's stream ends at once; its containers are listed when a page comes."""

    async def test(page: Page) -> None:
        await page.open()
        async with page.session.get(f"{page.own}{page.guard.base}events") as answer:
            assert answer.content_type == "text/event-stream"
            events = _events(answer)
            kind, content = await anext(events)
            assert (kind, set(content["Engines"])) == ("state", {HERE})
            engine = content["Engines"][HERE]
            while not (engine["Containers"] and "ended the stream" in engine["Problem"]):
                kind, content = await anext(events)
                if kind == "change":
                    engine |= {part: content[part] for part in content if part in engine}
            assert engine["Containers"][ID]["Name"]

    run(daemon, test)


async def _events(answer: ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    kind = ""
    async for line in answer.content:
        word, _, rest = line.decode().rstrip("\n").partition(": ")
        if word == "event":
            kind = rest
        elif word == "data":
            yield kind, json.loads(rest)


def test_a_bad_question_is_answered_in_one_line(daemon: FakeDaemon) -> None:
    async def test(page: Page) -> None:
        await page.open()
        for answer, status, words in (
            (await page.get("container?engine=h9&id=web"), 404, "no engine 'h9': here"),
            (await page.get("container?engine=here"), 400, "id must be text"),
            (await page.get("logs?engine=here&id=../images"), 400, "'../images' is no name"),
            (await page.get("logs?engine=here&id=nosuch"), 404, "No such container: nosuch"),
            (await page.post("trace", []), 400, "no JSON object"),
            (await page.post("trace", {"from": "a", "to": "x" * 301}), 400, "to must be text"),
            (await page.post("trace", {"from": "a", "to": "b", "service": "80/sctp"}), 400, "sctp"),
            (await page.post("trace", {"from": "a" * (1 << 17)}), 413, "Too Large"),
        ):  # fmt: skip
            message = (await answer.json())["message"]
            assert (answer.status, words in message) == (status, True), message
            assert "\n" not in message

    run(daemon, test)


def test_logs_are_both_streams_in_their_order(daemon: FakeDaemon) -> None:
    async def test(page: Page) -> None:
        await page.open()
        answer = await page.get("logs?engine=here&id=web")
        assert await answer.text() == "line 1\noops\nline 2\n"

    run(daemon, test)
