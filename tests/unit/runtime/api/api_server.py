"""The API over the fake engine, served from a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from runtime.api.app import make_app
from runtime.api.server.listen_address import Address, TlsOptions, UnixAddress
from runtime.api.server.listeners import Listener, open_all, tls_context
from runtime.api.server.serve import Serving, serve
from tests.unit.runtime.api.fake_engine import FakeEngine


class ApiServer:
    """`with ApiServer(tmp_path) as api:`; `api.engine` is the fake, `api.host` for DOCKER_HOST."""

    def __init__(
        self,
        root: Path,
        *addresses: Address,
        tls: TlsOptions | None = None,
        insecure: bool = False,
        app: Callable[[FakeEngine], web.Application] = make_app,
    ) -> None:
        self.path = root / "api.sock"
        self.host = f"unix://{self.path}"
        self._addresses: Sequence[Address] = (UnixAddress(path=self.path), *addresses)
        self._tls = tls or TlsOptions()
        self._insecure = insecure
        self._app = app
        files = root / "containers"
        files.mkdir(exist_ok=True)
        self.loop = asyncio.new_event_loop()
        self.engine = FakeEngine(self.loop, files)
        self.listeners: list[Listener] = []
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.listeners = open_all(
            self._addresses, tls=self._tls, insecure=self._insecure, environ={}
        )
        self.app = self._app(self.engine)
        self._serving: Serving = self.run(
            serve(self.app, self.listeners, tls=tls_context(self._tls))
        )
        return self

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def port(self) -> int:
        """Return the port of the TCP listener."""
        return int(next(s.sock.getsockname()[1] for s in self.listeners if s.path is None))

    def __exit__(self, *exc: object) -> None:
        self.engine.kill_all()
        self.run(self._serving.close())
        self.run(_settle())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    # a plain client

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(self.path))
        return sock

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (names in lower case), body.  A dict or list is sent as JSON."""
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = self.connect()
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, data

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """Return the decoded reply of a request that must succeed."""
        status, _, data = self.request(method, path, body)
        assert status < 400, (status, data)
        return json.loads(data) if data else None

    def error(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Return status and message of a request that must fail."""
        status, got, data = self.request(method, path, body, headers)
        assert status >= 400, (status, data)
        assert got["content-type"] == "application/json"
        return status, json.loads(data)["message"]


async def _settle() -> None:
    """Let closed connections be noticed."""
    for _ in range(5):
        await asyncio.sleep(0)


def drain(sock: socket.socket) -> bytes:
    """Read until the server closes or resets the connection."""
    answer = b""
    try:
        while data := sock.recv(65536):
            answer += data
    except ConnectionResetError:
        pass
    return answer


@contextmanager
def with_a_container(folder: Path) -> Iterator[ApiServer]:
    """A server that has a container, called c."""
    with ApiServer(folder) as server:
        server.json("POST", "/containers/create?name=c", {"Image": "busybox", "Cmd": ["true"]})
        yield server
