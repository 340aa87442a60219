"""Requests typed by hand, cut short or not HTTP: an answer, and no traceback in the log."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.tcp_address import TcpAddress
from tests.unit.runtime.api.api_server import ApiServer, drain

pytestmark = pytest.mark.slow


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def exchange(api: ApiServer, data: bytes) -> bytes:
    """Return the answer to `data`, after which the client closes its half."""
    with api.connect() as sock:
        sock.settimeout(10)
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass  # refused already
        return drain(sock)


def test_a_request_as_the_course_types_it(api: ApiServer) -> None:
    answer = exchange(
        api, b"GET /info HTTP/1.1\n\n"
    )  # fmt: skip
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert "Driver" in json.loads(body)


def test_line_feeds_alone_end_headers_and_bodies_stay_as_they_are(api: ApiServer) -> None:
    body = b'{"Image":"busybox",\n\n"Cmd":["true"]}'
    request = b"POST /containers/create?name=c HTTP/1.1\nContent-Type: application/json\n"
    answer = exchange(api, request + b"Content-Length: %d\r\n\n" % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 201 Created")
    assert api.json("GET", "/containers/c/json")["Config"]["Cmd"] == ["true"]


def test_requests_in_a_row_are_answered_in_order(api: ApiServer) -> None:
    one, two = b"HEAD /_ping HTTP/1.1\n\n", b"GET /nothing HTTP/1.1\r\n\r\n"
    answer = exchange(api, one + one + two)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b'{"message":"page not found"}\n')
    assert answer.index(b"404") > answer.rindex(b"200 OK")


def test_a_body_that_waits_to_be_asked_for(api: ApiServer) -> None:
    with api.connect() as sock:
        sock.sendall(b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n"
                     b"Content-Length: 19\r\nExpect: 100-continue\r\n\r\n")  # fmt: skip
        assert sock.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b'{"Image":"busybox"}')
        assert sock.recv(4096).startswith(b"HTTP/1.1 ")


def test_a_request_that_comes_byte_by_byte(api: ApiServer) -> None:
    with api.connect() as sock:
        for byte in b"\r\nGET /_ping HTTP/1.1\nHost: x\r\n\n":
            sock.sendall(bytes([byte]))
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_closed_its_half_gets_the_answer_to_a_slow_request(api: ApiServer) -> None:
    api.json("POST", "/containers/create?name=c", {"Image": "busybox", "Cmd": ["sleep", "30"]})
    api.json("POST", "/containers/c/start")
    answer = exchange(api, b"GET /containers/c/stats?stream=0 HTTP/1.1\n\n")
    assert b'"cpu_stats"' in answer


def test_a_client_that_leaves_after_its_half_close_is_noticed(api: ApiServer) -> None:
    with api.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
        sock.shutdown(socket.SHUT_WR)
        assert api.json("GET", "/containers/json") == []
        assert len(_streams(api)) == 1
    for _ in range(100):
        if not _streams(api):
            return
        api.request("GET", "/_ping")
    raise AssertionError("the stream of a client that left goes on")


def _streams(api: ApiServer) -> object:
    from runtime.api.server import responses

    return api.app[responses.STREAMS]


def test_over_tcp_a_request_needs_its_host(tmp_path: Path) -> None:
    with ApiServer(tmp_path, TcpAddress(host="127.0.0.1", port=0)) as api:
        with socket.create_connection(("127.0.0.1", api.port()), timeout=10) as sock:
            sock.sendall(b"GET /_ping HTTP/1.1\n\n")
            assert b" 400 " in sock.recv(4096)
        with socket.create_connection(("127.0.0.1", api.port()), timeout=10) as sock:
            sock.sendall(b"GET /_ping HTTP/1.1\nHost: localhost\n\n")
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while data := sock.recv(4096):
                answer += data
    assert answer.endswith(b"\r\n\r\nOK")


GOOD = b"Host: x\r\n\r\n"
MALFORMED = {
    "no version": b"GET /_ping\r\n\r\n",
    "no path": b"GET\r\n\r\n",
    "a future version": b"GET /_ping HTTP/3.0\r\n" + GOOD,
    "version words": b"GET /_ping HTTP/x\r\n" + GOOD,
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": b"\x00" * 100,
    "control bytes in the path": b"GET /\x01\x02 HTTP/1.1\r\n" + GOOD,
    "bytes above 127 in the path": b"GET /\xff\xfe HTTP/1.1\r\n" + GOOD,
    "escapes that are not UTF-8": b"GET /containers/%ff%fe/json HTTP/1.1\r\n" + GOOD,
    "escapes cut short": b"GET /containers/%f HTTP/1.1\r\n" + GOOD,
    "an escaped zero": b"GET /containers/%00/json HTTP/1.1\r\n" + GOOD,
    "a query that is not UTF-8": b"GET /containers/json?filters=%ff HTTP/1.1\r\n" + GOOD,
    "an absolute URL": b"GET http://[::1/x HTTP/1.1\r\n" + GOOD,
    "a URL with a bad port": b"GET http://h:99999999/x HTTP/1.1\r\n" + GOOD,
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\n" + GOOD,
    "CONNECT to nothing": b"CONNECT / HTTP/1.1\r\n" + GOOD,
    "asterisk": b"GET * HTTP/1.1\r\n" + GOOD,
    "a method that is not one": b"G@T /_ping HTTP/1.1\r\n" + GOOD,
    "a method in small letters": b"get /_ping HTTP/1.1\r\n" + GOOD,
    "an unknown method": b"BREW /_ping HTTP/1.1\r\n" + GOOD,
    "a header without colon": b"GET /_ping HTTP/1.1\r\nHost\r\n\r\n",
    "a header without name": b"GET /_ping HTTP/1.1\r\n: x\r\n\r\n",
    "a space before the colon": b"GET /_ping HTTP/1.1\r\nHost : x\r\n\r\n",
    "a folded header": b"GET /_ping HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
    "a zero in a header": b"GET /_ping HTTP/1.1\r\nHost: \x00\r\n\r\n",
    "a carriage return in a header": b"GET /_ping HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    "bytes above 127 in a header": b"POST /containers/create HTTP/1.1\r\nContent-Type: \xff\r\n"
    b"Content-Length: 2\r\n\r\n{}",
    "two lengths": b"POST /auth HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a negative length": b"POST /auth HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "a length with a sign": b"POST /auth HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
    "a length in words": b"POST /auth HTTP/1.1\r\nContent-Length: one\r\n\r\n",
    "a length of 5,000 digits": b"POST /auth HTTP/1.1\r\nContent-Length: " + b"9" * 5000
    + b"\r\n\r\n",
    "an attach of 5,000 digits": b"POST /containers/c/attach HTTP/1.1\r\nContent-Length: "
    + b"9" * 5000 + b"\r\n\r\n",
    "an unknown coding": b"POST /auth HTTP/1.1\r\nTransfer-Encoding: odd\r\n\r\n",
    "length and chunks": b"POST /auth HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked"
    b"\r\n\r\n0\r\n\r\n",
    "a chunk that is no number": b"POST /containers/create HTTP/1.1\r\nContent-Type: "
    b"application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": b"POST /containers/create HTTP/1.1\r\nContent-Type: "
    b"application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}{}\r\n0\r\n\r\n",
    "an unknown expectation": b"POST /auth HTTP/1.1\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n",
    "an upgrade to nothing": b"GET /_ping HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "JSON that is not UTF-8": b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json"
    b"\r\nContent-Length: 4\r\n\r\n{\"\xff\"",
}  # fmt: skip
CUT_SHORT = {
    "nothing": b"",
    "half a line": b"GET /_pi",
    "half a head": b"GET /_ping HTTP/1.1\r\nHo",
    "half a body": b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 99\r\n\r\n{",
    "half a chunk": b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nff\r\n{",
    "half an attach": b"POST /containers/c/attach HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_a_request_is_refused_in_a_line(
    api: ApiServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    answer = exchange(api, MALFORMED[name])
    status = int(answer.split()[1])
    assert status < 300 or 400 <= status < 500 or status == 501, answer
    quiet(api, caplog)


@pytest.mark.parametrize("name", CUT_SHORT)
def test_what_is_cut_short_is_dropped(
    api: ApiServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.INFO)
    answer = exchange(api, CUT_SHORT[name])
    assert answer == b"" or (answer.startswith(b"HTTP/1.") and answer[8:10] == b" 4"), answer
    quiet(api, caplog)


def test_a_head_without_end_is_refused(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    answer = exchange(api, b"GET /_ping HTTP/1.1\r\nX: " + b"x" * (3 << 20))
    assert answer == b"" or b" 431 Request Header Fields Too Large\r\n" in answer
    quiet(api, caplog)


def quiet(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    assert api.request("GET", "/_ping")[2] == b"OK"
    faults = [r for r in caplog.records if r.exc_info or r.levelno > logging.WARNING]
    assert [r.getMessage() for r in faults] == []
    assert not any("\n" in r.getMessage() for r in caplog.records)
