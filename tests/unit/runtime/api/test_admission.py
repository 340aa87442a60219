"""Bounds of connections, of time, and of bodies that are held at once; over the fake engine."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import pytest

from runtime import limits
from runtime.api.server import admission, backlog
from runtime.api.server.admission import Bodies, Connections
from runtime.api.server.backlog import Replies
from runtime.window import Window
from tests.unit.runtime.api.api_server import ApiServer, drain

pytestmark = pytest.mark.slow

EVENTS = b"GET /events HTTP/1.1\r\n\r\n"
PING = b"GET /_ping HTTP/1.1\r\n\r\n"
CREATE = b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def beginning(api: ApiServer, data: bytes) -> bytes:
    with api.connect() as sock:
        try:
            sock.sendall(data)
            return sock.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return b""


def large_container(api: ApiServer) -> None:
    """A container, called c, whose description has more than 900,000 bytes."""
    labels = {"x": "y" * 900_000}
    api.json("POST", "/containers/create?name=c", {"Image": "busybox", "Labels": labels})


def streaming(api: ApiServer) -> socket.socket:
    sock = api.connect()
    sock.sendall(EVENTS)
    assert b" 200 " in sock.recv(4096)
    return sock


def test_beyond_the_bound_a_new_connection_is_refused_and_admitted_when_one_ends(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 3)
    monkeypatch.setattr(admission, "_of_root", lambda _: False)
    with ExitStack() as stack:
        streams = [stack.enter_context(streaming(api)) for _ in range(3)]
        with api.connect() as sock:
            head, _, body = drain(sock).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert "too many connections" in json.loads(body)["message"]
        streams[0].close()
        for _ in range(2000):
            if b" 200 " in beginning(api, PING):
                return
            time.sleep(0.01)
        raise AssertionError("no place became free")


def test_an_idle_connection_gives_its_place_to_a_new_one(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    monkeypatch.setattr(limits, "CONNECTIONS_RESERVE", 0)
    monkeypatch.setattr(admission, "_FRESH", 0)
    with streaming(api) as busy, api.connect() as idle:
        idle.sendall(PING)
        assert b" 200 " in idle.recv(4096)
        assert api.request("GET", "/_ping")[0] == 200
        assert drain(idle) == b""
        busy.setblocking(False)
        with pytest.raises(BlockingIOError):
            busy.recv(1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_has_a_reserve(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 1)
    monkeypatch.setattr(limits, "CONNECTIONS_RESERVE", 1)
    with streaming(api):
        assert api.request("GET", "/_ping")[0] == 200
        with streaming(api), api.connect() as third:
            assert drain(third).startswith(b"HTTP/1.1 503 ")


def test_a_hijacked_connection_frees_its_place_at_its_end(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    monkeypatch.setattr(limits, "CONNECTIONS_RESERVE", 0)
    api.json("POST", "/containers/create?name=c", {"Image": "busybox", "Cmd": ["sleep", "30"]})
    api.json("POST", "/containers/c/start")
    attach = b"POST /containers/c/attach?stream=1&stdout=1 HTTP/1.1\r\nUpgrade: tcp\r\n\r\n"
    for _ in range(4):
        for _ in range(2000):  # until the end of the one before has been seen
            if b" 101 " in beginning(api, attach):
                break
            time.sleep(0.01)
        else:
            raise AssertionError("its place stayed taken")


def test_a_head_that_does_not_come_is_timed_out(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.05)
    with api.connect() as sock:
        sock.sendall(b"GET /_ping HTTP/1.1\r\nX: ")
        assert drain(sock).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    with streaming(api) as sock:  # a request that is whole may take its time
        sock.settimeout(0.15)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_of_too_many_incomplete_heads_the_largest_is_dropped(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADS_BYTES", 50_000)
    with api.connect() as small, api.connect() as large:
        small.sendall(PING[:-2])
        large.sendall(PING[:-2] + b"X: " + b"x" * 60_000)
        assert drain(large) == b""
        small.sendall(b"\r\n")
        assert b" 200 " in small.recv(4096)


def test_a_head_of_a_client_that_has_left_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADS_BYTES", 10_000)
    connections = Connections(Replies())
    closed, here = (Mock(spec=asyncio.Transport) for _ in range(2))
    for transport in (closed, here):
        assert connections.admit(transport, lambda: None)
    connections.leave(closed)
    connections.hold_head(closed, 9_000)  # what it had sent behind the request that was answered
    connections.hold_head(here, 9_000)
    assert not here.abort.called


def test_a_json_body_that_does_not_come_is_timed_out(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    with api.connect() as sock:
        sock.sendall(CREATE + b"Content-Length: 20\r\n\r\n{")
        assert sock.recv(4096).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize("digits", [19, 20, 21])
def test_a_length_beyond_63_bits_is_refused(api: ApiServer, digits: int) -> None:
    with api.connect() as sock:
        sock.sendall(CREATE + b"Content-Length: 1%s\r\n\r\n{" % (b"0" * (digits - 1)))
        assert drain(sock).startswith(b"HTTP/1.1 400 ")


def test_a_length_with_leading_zeros_is_what_it_says(api: ApiServer) -> None:
    with api.connect() as sock:
        sock.sendall(b"POST /auth HTTP/1.1\r\nContent-Length: %s2\r\n\r\n{}" % (b"0" * 20) + PING)
        answer = b""
        while b"OK" not in answer[-2:]:
            answer += sock.recv(4096)
        assert answer.count(b"HTTP/1.1 ") == 2


def test_a_large_body_waits_for_its_turn_and_a_client_that_leaves_frees_its_place(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SMALL", 50)
    monkeypatch.setattr(limits, "BODIES_BYTES", 200)
    large = {"Image": "busybox", "Labels": {"x": "y" * 100}}
    with api.connect() as first:
        first.sendall(CREATE + b"Content-Length: 150\r\n\r\n{")
        with api.connect() as second:
            body = json.dumps(large).encode()
            second.sendall(CREATE + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            second.settimeout(0.1)
            with pytest.raises(TimeoutError):
                second.recv(1)
            assert api.error("POST", "/containers/create", {"Image": ""})[0] == 400  # small
            first.close()
            second.settimeout(10)
            assert second.recv(4096).startswith(b"HTTP/1.1 201 ")
    api.json("POST", "/containers/create", large)


def test_a_waiting_body_that_is_cancelled_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SMALL", 0)
    monkeypatch.setattr(limits, "BODIES_BYTES", 1)

    async def scene() -> None:
        bodies = Bodies()
        await bodies.take(1, 1, bool)
        second, third = (asyncio.ensure_future(bodies.take(name, 1, bool)) for name in (2, 3))
        await asyncio.sleep(0)
        second.cancel()
        bodies.free(1)
        await asyncio.wait_for(third, 1)
        bodies.free(3)
        await asyncio.wait_for(bodies.take(4, 1, bool), 1)

    asyncio.run(scene())


def test_a_reply_that_is_not_taken_is_dropped(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REPLY_SECONDS", 0.1)
    large_container(api)
    with api.connect() as sock:
        sock.sendall(b"GET /containers/c/json HTTP/1.1\r\n\r\n")
        time.sleep(0.4)
        assert len(drain(sock)) < 900_000
    monkeypatch.setattr(limits, "REPLY_SECONDS", 60)
    assert len(api.request("GET", "/containers/c/json")[2]) > 900_000


def test_of_heads_under_way_the_largest_is_dropped(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADS_BYTES", 50_000)
    large = EVENTS[:-2] + b"X: " + b"x" * 30_000 + b"\r\n\r\n"
    with streaming(api) as small, api.connect() as first, api.connect() as second:
        first.sendall(large)
        assert b" 200 " in first.recv(4096)
        second.sendall(large)
        assert drain(first) == b""
        assert b" 200 " in second.recv(4096)
        small.setblocking(False)
        with pytest.raises(BlockingIOError):
            small.recv(1)
        assert api.request("GET", "/_ping")[0] == 200


def taken(api: ApiServer, first: bytes, more: bytes) -> int:
    """Return how many bytes of `more` the engine accepts from a client with a small buffer."""
    with api.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.sendall(first)
        sock.settimeout(0.3)
        size = 0
        try:
            while size < 1 << 20:
                size += sock.send(more)
        except TimeoutError:
            pass
        return size


@pytest.mark.parametrize("length", [b"Content-Length: 9000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_no_handler_asks_for_is_not_read(api: ApiServer, length: bytes) -> None:
    chunk = b"400\r\n" + bytes(1024) + b"\r\n"
    more = chunk if b"chunked" in length else bytes(1024)
    assert taken(api, EVENTS[:-2] + length + b"\r\n\r\n", more) < 60_000


def test_of_what_follows_a_request_little_is_read(api: ApiServer) -> None:
    assert taken(api, EVENTS, PING * 20) < 60_000


def test_a_body_that_comes_slowly_is_given_up_for_waiting_ones(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_SMALL", 50)
    monkeypatch.setattr(limits, "BODIES_BYTES", 200)
    monkeypatch.setattr(admission, "_FRESH", 0.05)
    with api.connect() as slow:
        slow.sendall(CREATE + b"Content-Length: 150\r\n\r\n{")
        time.sleep(0.2)
        slow.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.recv(1)
        api.json("POST", "/containers/create", {"Image": "busybox", "Labels": {"x": "y" * 100}})
        slow.settimeout(10)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_of_bodies_that_wait_the_smallest_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SMALL", 0)
    monkeypatch.setattr(limits, "BODIES_BYTES", 100)

    async def scene() -> list[int]:
        bodies, order = Bodies(), []
        await bodies.take(1, 100, bool)

        async def one(size: int) -> None:
            await bodies.take(size, size, bool)
            order.append(size)
            bodies.free(size)

        waiting = [asyncio.ensure_future(one(size)) for size in (90, 10, 95, 20)]
        await asyncio.sleep(0)
        bodies.free(1)
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        return order

    assert asyncio.run(scene()) == [10, 20, 90, 95]


def test_replies_that_are_not_taken_are_bounded_in_sum(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that read nothing are cut off, and a client that reads is served."""
    monkeypatch.setattr(limits, "REPLIES_BYTES", 2_000_000)
    large_container(api)
    with ExitStack() as stack:
        idle = [stack.enter_context(api.connect()) for _ in range(8)]
        for sock in idle:
            sock.sendall(b"GET /containers/c/json HTTP/1.1\r\n\r\n")
        assert len(api.request("GET", "/containers/c/json")[2]) > 900_000
        whole = [sock for sock in idle if len(drain_some(sock)) > 900_000]
        assert len(whole) < len(idle)


def drain_some(sock: socket.socket) -> bytes:
    """Read until the connection is closed, or nothing arrives for a while."""
    answer = b""
    sock.settimeout(0.3)
    try:
        while data := sock.recv(1 << 20):
            answer += data
    except (TimeoutError, ConnectionResetError):
        pass
    return answer


def test_replies_whose_clients_left_in_the_middle_are_held_no_longer(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REPLIES_BYTES", 1_000_000)
    large_container(api)
    for _ in range(4):
        with api.connect() as sock:
            sock.sendall(b"GET /containers/c/json HTTP/1.1\r\n\r\n")
            assert sock.recv(4096)
        assert len(api.request("GET", "/containers/c/json")[2]) > 900_000


def test_a_stream_whose_client_reads_nothing_counts(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REPLIES_BYTES", 1_000_000)
    monkeypatch.setattr(backlog, "_FRESH", 0.05)
    with ExitStack() as stack:
        idle = [stack.enter_context(streaming(api)) for _ in range(6)]
        for _ in range(2):
            api.engine.events.emit("container", "start", "c", {"a": "b" * 600_000})
        ends = [drain_some(sock) for sock in idle]
        assert any(len(end) < 1_200_000 for end in ends)
        assert any(len(end) > 600_000 for end in ends)
    assert api.request("GET", "/_ping")[0] == 200


def test_a_window_is_small_while_all_together_hold_much() -> None:
    window = Window(total=100, most=50, least=5)
    window.add(99)
    assert window.size == 50
    window.add(1)
    assert window.size == 5
    window.add(-100)
    assert (window.size, window.held) == (50, 0)


class Slow:
    """A transport whose client takes a byte at each look at its buffer."""

    def __init__(self, replies: Replies) -> None:
        self._replies, self._left = replies, 10 * limits.REPLIES_BYTES

    def look(self) -> int:
        self._left -= 1
        return self._left

    def abort(self) -> None:
        self._replies.release(self)  # type: ignore[arg-type]


def test_who_takes_a_reply_byte_by_byte_keeps_no_other_from_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "_PATIENCE", 0.05)

    async def scene() -> None:
        replies = Replies()
        slow = Slow(replies)
        replies.hold(slow, slow.look)  # type: ignore[arg-type]
        assert not replies.roomy
        await asyncio.wait_for(replies.room(), 10)

    asyncio.run(scene())
