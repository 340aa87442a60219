"""A client that leaves ends the work that is done for it, on every route that takes its time."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from runtime.api.app import ROUTES
from tests.unit.runtime.api.api_server import ApiServer

# Whatever answers or reads for as long as its client is there does so by one of these.
LASTING = {
    "open_stream", "send", "send_objects", "run_session", "uploading", "pulled", "following",
    "_cancelled_with_client",
}  # fmt: skip
BLOCK = b"x" * 65536


def names_in(function: Callable[..., Any]) -> set[str]:
    """Return names that a function uses, also through functions of its module."""
    found: set[str] = set()
    todo = [function]
    while todo:
        tree = ast.parse(textwrap.dedent(inspect.getsource(todo.pop())))
        for node in ast.walk(tree):
            name = getattr(node, "attr", getattr(node, "id", None))
            if name is None or name in found:
                continue
            found.add(name)
            inner = vars(inspect.getmodule(function)).get(name)
            local = inspect.isfunction(inner) and inner.__module__ == function.__module__
            if isinstance(node, ast.Name) and local:
                todo.append(inner)
    return found


class Work:
    """Records when work for a client begins and when it ends."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def blocks(self, *_: Any, **__: Any) -> Iterator[bytes]:
        self.begun.set()
        try:
            while True:
                yield BLOCK
        finally:
            self.over.set()

    def archive(self, *_: Any) -> tuple[Any, Iterator[bytes]]:
        from runtime.rootfs.stat import PathStat

        return PathStat(name="a", size=1, mode=0o100644, mtime=""), self.blocks()

    async def silence(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        await self.wait()
        yield None

    async def wait(self, *_: Any) -> tuple[int, str]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.over.set()
        return 0, ""

    def attachment(self, *_: Any, **__: Any) -> Any:
        work = self

        class Attachment:
            tty = False

            async def run(self, _: Any) -> None:
                await work.wait()

        return Attachment()

    def reading(self, upload: Any) -> None:
        self.begun.set()
        try:
            while upload.read(1 << 16):
                pass
        finally:
            self.over.set()

    def put(self, _: str, __: str, upload: Any, **___: Any) -> None:
        self.reading(upload)

    def import_(self, upload: Any, _: Any) -> str:
        self.reading(upload)
        return ""

    def build(self, _: Any, upload: Any, *__: Any) -> None:
        self.reading(upload)

    def load(self, upload: Any) -> Iterator[str]:
        self.reading(upload)
        yield ""

    def transfer(self, *given: Any, **named: Any) -> Any:
        """With a registry that says nothing."""
        self.begun.set()
        try:
            (named.get("cancel") or given[-1]).wait(60)
        finally:
            self.over.set()

    def sample(self, *_: Any) -> dict[str, Any]:
        self.begun.set()
        return {}


UPLOAD = "Content-Length: 9000000\r\n"
UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
JSON = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_NAME = '{"username": "a", "password": "b"}'
LOGIN = f"Content-Type: application/json\r\nContent-Length: {len(_NAME)}\r\n\r\n{_NAME}"
# by method and path of the route: what is asked, with what, and (part of the engine, its method,
# the work that stands for it)
CASES: dict[tuple[str, str], tuple[str, str, str, str, str]] = {
    ("GET", "/containers/{ref}/archive"):
        ("/containers/c/archive?path=/", "", "containers", "get_archive", "archive"),
    ("PUT", "/containers/{ref}/archive"):
        ("/containers/c/archive?path=/", UPLOAD, "containers", "put_archive", "put"),
    ("GET", "/containers/{ref}/export"):
        ("/containers/c/export", "", "containers", "export", "blocks"),
    ("POST", "/containers/{ref}/wait"):
        ("/containers/c/wait", "", "containers", "waiter", "wait"),
    ("POST", "/containers/{ref}/attach"):
        ("/containers/c/attach?stream=1&stdout=1", UPGRADE, "containers", "attach", "attachment"),
    ("GET", "/containers/{ref}/logs"):
        ("/containers/c/logs?follow=1&stdout=1", "", "containers", "logs", "silence"),
    ("GET", "/containers/{ref}/stats"):
        ("/containers/c/stats", "", "containers", "stats", "sample"),
    ("POST", "/exec/{ref}/start"):
        ("/exec/e/start", UPGRADE + JSON, "execs", "start", "attachment"),
    ("GET", "/images/get"): ("/images/get?names=a", "", "images", "save", "blocks"),
    ("GET", "/images/{ref}/get"): ("/images/a/get", "", "images", "save", "blocks"),
    ("POST", "/images/load"): ("/images/load", UPLOAD, "images", "load", "load"),
    ("POST", "/images/create"):
        ("/images/create?fromSrc=-", UPLOAD, "images", "import_", "import_"),
    ("POST", "/build"): ("/build", UPLOAD, "builds", "build", "build"),
    ("POST", "/images/{ref}/push"): ("/images/a/push?tag=1", "", "registries", "push", "transfer"),
    ("GET", "/images/search"): ("/images/search?term=a", "", "registries", "search", "transfer"),
    ("POST", "/auth"): ("/auth", LOGIN, "registries", "login", "transfer"),
    ("GET", "/distribution/{ref}/json"):
        ("/distribution/a/json", "", "registries", "look", "transfer"),
    ("GET", "/netkit/manifests/{ref}"):
        ("/netkit/manifests/a", "", "registries", "look", "transfer"),
    ("GET", "/events"): ("/events", "", "events", "subscribe", "silence"),
    ("GET", "/netkit/watch"): ("/netkit/watch", "", "watch", "watch", "silence"),
}  # fmt: skip


def test_every_route_that_takes_its_time_is_tried() -> None:
    lasting = {(route.method, route.path) for route in ROUTES if names_in(route.handler) & LASTING}
    assert lasting == set(CASES)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(tmp_path_factory.mktemp("api")) as server:
        server.json("POST", "/containers/create?name=c", {"Image": "busybox", "Cmd": ["x"]})
        yield server


def tasks(api: ApiServer) -> int:
    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return int(api.run(count()))


@pytest.mark.slow
@pytest.mark.parametrize("route", CASES, ids=" ".join)
def test_the_work_ends_when_the_client_leaves(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, route: tuple[str, str]
) -> None:
    path, head, part, method, stand_in = CASES[route]
    work = Work()
    monkeypatch.setattr(getattr(api.engine, part), method, getattr(work, stand_in))
    before = tasks(api)
    with api.connect() as sock:
        text = f"{route[0]} {path} HTTP/1.1\r\nHost: x\r\n{head}"
        sock.sendall((text if JSON in head else text + "\r\n").encode())
        if head == UPLOAD:
            sock.sendall(BLOCK)
        assert work.begun.wait(30)
        time.sleep(0.05)
        assert not work.over.is_set()
    left = time.monotonic()
    if stand_in != "sample":
        assert work.over.wait(30)
    while tasks(api) > before:
        assert time.monotonic() < left + 30, "the handler goes on"
        time.sleep(0.02)
