"""Connections that are taken over: the contract with aiohttp, half-close, pressure, leaving."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from netkit.errors import Conflict
from runtime.api.server.hijack import frame
from runtime.lifecycle.streams import Stream
from tests.unit.runtime.api.api_server import ApiServer

pytestmark = pytest.mark.slow

Script = Callable[[Stream], Awaitable[None]]


class Scripted:
    """An attachment that runs a function of the test."""

    def __init__(self, script: Script, tty: bool = False) -> None:
        self.tty = tty
        self._script = script
        self.ended: list[str] = []

    async def run(self, stream: Stream) -> None:
        try:
            await self._script(stream)
            self.ended.append("done")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def script(api: ApiServer, monkeypatch: Any, does: Script, tty: bool = False) -> Scripted:
    made = Scripted(does, tty)
    monkeypatch.setattr(api.engine.containers, "attach", lambda ref, options: made)
    return made


def attach(
    api: ApiServer, *, early: bytes = b"", upgrade: bool = True, version: str = ""
) -> tuple[socket.socket, bytes]:
    """Return the connection and the head of the answer; what follows the head is left unread."""
    sock = api.connect()
    headers = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else ""
    head = f"POST {version}/containers/x/attach HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
    sock.sendall(head.encode() + early)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        got = sock.recv(1)
        assert got, answer
        answer += got
    return sock, answer


def rest(sock: socket.socket) -> bytes:
    data = bytearray()
    while more := sock.recv(1 << 16):
        data += more
    return bytes(data)


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(1, data)


def test_an_upgrade_is_answered_with_101_and_frames(api: ApiServer, monkeypatch: Any) -> None:
    script(api, monkeypatch, echo)
    sock, head = attach(api)
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert b"Content-Type: application/vnd.docker.multiplexed-stream\r\n" in head
    assert b"Connection: Upgrade\r\nUpgrade: tcp\r\n" in head
    sock.sendall(b"hello")
    assert sock.recv(100) == b"\x01\0\0\0\0\0\0\x05hello"
    sock.shutdown(socket.SHUT_WR)
    assert rest(sock) == b""
    sock.close()


def test_without_an_upgrade_it_is_200(api: ApiServer, monkeypatch: Any) -> None:
    script(api, monkeypatch, echo)
    sock, head = attach(api, upgrade=False)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Upgrade" not in head
    sock.sendall(b"x")
    assert sock.recv(100) == frame(1, b"x")
    sock.close()


def test_before_1_42_and_on_terminals_the_type_is_raw(api: ApiServer, monkeypatch: Any) -> None:
    script(api, monkeypatch, echo)
    sock, head = attach(api, version="/v1.41")
    assert b"vnd.docker.raw-stream" in head
    sock.close()
    script(api, monkeypatch, echo, tty=True)
    sock, head = attach(api)
    assert b"vnd.docker.raw-stream" in head
    sock.sendall(b"raw")
    assert sock.recv(100) == b"raw"
    sock.close()


def test_what_comes_with_the_head_is_not_lost(api: ApiServer, monkeypatch: Any) -> None:
    script(api, monkeypatch, echo, tty=True)
    early = b"0123456789" * 30_000  # more than aiohttp buffers before it stops reading
    sock = api.connect()
    sock.sendall(b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                 b"Upgrade: tcp\r\n\r\n" + early[:100_000])  # fmt: skip
    sock.sendall(early[100_000:])
    sock.shutdown(socket.SHUT_WR)
    assert rest(sock).partition(b"\r\n\r\n")[2] == early
    sock.close()


def test_stdin_after_the_body_of_exec_start_is_not_lost(api: ApiServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(api.engine.execs, "start", lambda *a, **k: Scripted(echo, k["tty"]))
    sock = api.connect()
    sock.sendall(b"POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                 b"Upgrade: tcp\r\nContent-Type: application/json\r\n"
                 b'Content-Length: 13\r\n\r\n{"Tty": true}stdin')  # fmt: skip
    sock.shutdown(socket.SHUT_WR)
    assert rest(sock).partition(b"\r\n\r\n")[2] == b"stdin"
    sock.close()


@pytest.mark.parametrize("upgrade", [True, False])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_request_in_pieces_of_any_size_is_one_request(
    api: ApiServer, monkeypatch: Any, size: int, upgrade: bool
) -> None:
    script(api, monkeypatch, echo, tty=True)
    asked = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
    whole = b"POST /v1.40/containers/x/attach?stdin=1 HTTP/1.1\r\nHost: x\r\n" + asked
    whole += b"Content-Length: 0\r\n\r\nPOST /exec/y/start HTTP/1.1\r\n\r\nGET / HTTP/1.1"
    sock = api.connect()
    for at in range(0, len(whole), size):
        sock.sendall(whole[at : at + size])
        time.sleep(0.0005)
    sock.shutdown(socket.SHUT_WR)
    assert rest(sock).partition(b"\r\n\r\n")[2] == whole.partition(b"\r\n\r\n")[2]
    sock.close()


def test_a_take_over_on_a_connection_that_was_used_before(api: ApiServer, monkeypatch: Any) -> None:
    sock = api.connect()
    refused = b"POST /containers/nothere/attach HTTP/1.1\r\nHost: x\r\n\r\n"
    for request, status in ((b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
                            (refused, b"404"), (refused, b"404")):  # fmt: skip
        sock.sendall(request)
        assert sock.recv(4096).split()[1] == status
    script(api, monkeypatch, echo, tty=True)
    sock.sendall(b"POST /containers/x/attach HTTP/1.1\r\nHost: x\r\n\r\nabc")
    sock.shutdown(socket.SHUT_WR)
    assert rest(sock).endswith(b"\r\n\r\nabc")
    sock.close()


def test_a_refused_client_that_half_closed_still_gets_its_answer(api: ApiServer) -> None:
    sock = api.connect()
    sock.sendall(b"POST /containers/nothere/attach HTTP/1.1\r\nHost: x\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)
    assert b"No such container: nothere" in rest(sock)
    sock.close()


def test_an_upload_that_looks_like_a_take_over_is_left_alone(api: ApiServer) -> None:
    body = b"POST /exec/y/start HTTP/1.1\r\n\r\n" * 10_000
    sock = api.connect()
    sock.sendall(b"POST /images/create?fromSrc=- HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                 % len(body))  # fmt: skip
    for at in range(0, len(body), 31 * 100):
        sock.sendall(body[at : at + 31 * 100])
        time.sleep(0.0005)
    assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    assert api.engine.images.received == len(body)
    sock.close()


def test_a_half_close_ends_input_only(api: ApiServer, monkeypatch: Any) -> None:
    async def count(stream: Stream) -> None:
        total = 0
        while data := await stream.read():
            total += len(data)
        await asyncio.sleep(0.2)
        await stream.write(2, b"%d" % total)

    script(api, monkeypatch, count)
    sock, _ = attach(api)
    sock.sendall(b"x" * 100_000)
    sock.shutdown(socket.SHUT_WR)
    assert rest(sock) == frame(2, b"100000")
    sock.close()


def test_a_slow_process_holds_the_client_up(api: ApiServer, monkeypatch: Any) -> None:
    gate = asyncio.Event()

    async def wait_then_count(stream: Stream) -> None:
        await gate.wait()
        total = 0
        while data := await stream.read():
            total += len(data)
        await stream.write(1, b"%d" % total)

    script(api, monkeypatch, wait_then_count, tty=True)
    sock, _ = attach(api)
    sock.settimeout(0.3)
    sent = 0
    with suppress(TimeoutError):
        while sent < 64 << 20:
            sent += sock.send(b"x" * 65536)
    assert sent < 8 << 20
    sock.settimeout(10)
    api.loop.call_soon_threadsafe(gate.set)
    sock.shutdown(socket.SHUT_WR)
    assert rest(sock) == b"%d" % sent
    sock.close()


def test_a_slow_client_holds_the_process_up(api: ApiServer, monkeypatch: Any) -> None:
    written = []

    async def pour(stream: Stream) -> None:
        for _ in range(1024):
            await stream.write(1, b"y" * 65536)
            written.append(1)

    script(api, monkeypatch, pour, tty=True)
    sock, _ = attach(api)
    time.sleep(0.4)
    assert len(written) < 64
    assert len(rest(sock)) == 64 << 20
    sock.close()


def test_unread_input_does_not_cost_the_client_its_output(api: ApiServer, monkeypatch: Any) -> None:
    async def never_reading(stream: Stream) -> None:
        await asyncio.sleep(0.2)
        await stream.write(1, b"z" * 200_000)

    script(api, monkeypatch, never_reading, tty=True)
    sock, _ = attach(api)
    sock.sendall(b"x" * 150_000)  # never read
    assert rest(sock) == b"z" * 200_000
    sock.close()


@pytest.mark.parametrize("half_closed_first", [False, True])
def test_a_client_that_leaves_ends_a_silent_attachment(
    api: ApiServer, monkeypatch: Any, half_closed_first: bool
) -> None:
    async def silent(stream: Stream) -> None:
        while await stream.read():
            pass
        await asyncio.sleep(60)

    attachment = script(api, monkeypatch, silent)
    sock, _ = attach(api)
    if half_closed_first:
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        assert attachment.ended == []
    sock.close()
    until(lambda: attachment.ended == ["CancelledError"])


def test_what_a_client_sent_before_it_left_is_still_delivered(
    api: ApiServer, monkeypatch: Any
) -> None:
    got = []

    async def slow(stream: Stream) -> None:
        await asyncio.sleep(0.2)
        while data := await stream.read():
            got.append(data)

    attachment = script(api, monkeypatch, slow)
    sock, _ = attach(api)
    sock.sendall(b"last words")
    sock.close()
    until(lambda: attachment.ended == ["done"])
    assert b"".join(got) == b"last words"


def test_writing_to_a_client_that_left_raises(api: ApiServer, monkeypatch: Any) -> None:
    async def chatter(stream: Stream) -> None:
        while True:
            await stream.write(1, b"x" * 1000)
            await asyncio.sleep(0)

    attachment = script(api, monkeypatch, chatter)
    sock, _ = attach(api)
    sock.close()
    until(lambda: attachment.ended)
    assert attachment.ended == ["ConnectionResetError"]


def test_an_error_before_the_take_over_is_json_and_after_it_a_frame(
    api: ApiServer, monkeypatch: Any
) -> None:
    assert api.error("POST", "/containers/nothere/attach")[0] == 404

    async def fail(stream: Stream) -> None:
        raise Conflict("too late")

    script(api, monkeypatch, fail)
    sock, _ = attach(api)
    assert rest(sock) == frame(3, b"too late\r\n")
    sock.close()


def test_nothing_of_a_connection_is_kept(api: ApiServer, monkeypatch: Any) -> None:
    script(api, monkeypatch, echo)
    seen: list[weakref.ref[Any]] = []
    before = api.run(connections(api))
    for _ in range(20):
        sock, _ = attach(api)
        sock.sendall(b"x")
        sock.recv(100)
        seen += api.run(handlers(api))
        sock.close()
    until(lambda: api.run(connections(api)) == before)

    def ended() -> bool:
        gc.collect()
        return not [r for r in seen if r() is not None]

    until(ended)
    assert seen


async def connections(api: ApiServer) -> int:
    server = api._serving._runner.server
    assert server is not None
    return len(server.connections)


async def handlers(api: ApiServer) -> list[weakref.ref[Any]]:
    from runtime.api.server.attach_session import SESSIONS

    return [weakref.ref(c) for c in api.app[SESSIONS]]
