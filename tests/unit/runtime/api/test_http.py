"""The application over a socket: headers, errors, bodies, streams, clients that leave."""

from __future__ import annotations

import gc
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import pytest
from aiohttp import web

from netkit.errors import InvalidSpec, KernelError, NoRoom, NotSupported
from runtime import limits
from runtime.api.server.hijack import frame
from tests.unit.runtime.api.api_server import ApiServer

pytestmark = pytest.mark.slow


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def create(api: ApiServer, *cmd: str, name: str = "c", **config: Any) -> str:
    body = {"Image": "busybox", "Cmd": list(cmd), **config}
    return str(api.json("POST", f"/containers/create?name={name}", body)["Id"])


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("path", ["/_ping", "/v1.24/_ping", "/v1.51/_ping"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping_says_what_is_served_in_its_headers(api: ApiServer, method: str, path: str) -> None:
    status, headers, body = api.request(method, path)
    assert (status, body) == (200, b"OK" if method == "GET" else b"")
    assert headers["api-version"] == "1.51"
    assert headers["ostype"] == "linux"
    assert headers["docker-experimental"] == "false"
    assert headers["server"].startswith("Docker/")
    assert headers["cache-control"] == "no-cache, no-store, must-revalidate"


def test_errors_carry_the_common_headers_too(api: ApiServer) -> None:
    status, headers, body = api.request("GET", "/v1.99/info")
    assert (status, headers["content-type"]) == (400, "application/json")
    assert headers["api-version"] == "1.51"
    assert "too new" in json.loads(body)["message"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nothing"), ("POST", "/info"), ("GET", "/v1.51/x"), ("PUT", "/")]
)
def test_unknown_paths_and_methods_are_page_not_found(
    api: ApiServer, method: str, path: str
) -> None:
    assert api.error(method, path) == (404, "page not found")


def test_a_head_that_fails_has_no_body(api: ApiServer) -> None:
    assert api.request("HEAD", "/containers/x/archive?path=/")[::2] == (404, b"")


def test_rules_for_json_bodies(api: ApiServer) -> None:
    path, kind = "/containers/create", "Content-Type"
    assert api.error("POST", path, b'{"Image":"busybox"}', **{kind: "text/plain"}) == (
        400, "unsupported Content-Type header (text/plain): must be 'application/json'",
    )  # fmt: skip
    assert api.error("POST", path, b"{}") == (
        400, "unsupported Content-Type header (): must be 'application/json'",
    )  # fmt: skip
    assert api.error("POST", path) == (
        400, "invalid JSON: got EOF while reading request body",
    )  # fmt: skip
    good = {kind: "application/json; charset=utf-8"}
    assert api.error("POST", path, b"{} {}", **good) == (400, "unexpected content after JSON")
    assert api.error("POST", path, b"{", **good)[1].startswith("invalid JSON: ")
    assert api.request("POST", path, b'{"Image":"busybox"}', good)[0] == 201


def test_a_json_body_beyond_its_bound_is_refused(api: ApiServer) -> None:
    body = {"Image": "x", "Env": ["y" * limits.BODY_BYTES]}
    assert api.error("POST", "/containers/create", body) == (
        400, "the JSON body is too large: 1 MiB at most",
    )  # fmt: skip


@pytest.mark.parametrize("depth", [70, 20_000])
@pytest.mark.parametrize(("open_", "close"), [("[", "]"), ('{"a":', "}")])
def test_deep_json_is_refused_wherever_it_comes(
    api: ApiServer, open_: str, close: str, depth: int
) -> None:
    deep = open_ * depth + "1" + close * depth
    kind = {"Content-Type": "application/json"}
    for path in ("/containers/create", "/networks/create", "/containers/c/update"):
        for body in (deep, f'{{"Image": "busybox", "Labels": {deep}, "Options": {deep}}}'):
            status, message = api.error("POST", path, body.encode(), **kind)
            assert status == 400, message
    if depth < 1000:
        query = quote(f'{{"label": {deep}}}')
        for path in ("/containers/json", "/images/json", "/networks", "/events"):
            assert api.error("GET", f"{path}?filters={query}")[0] == 400


def test_json_of_too_many_values_is_refused(api: ApiServer) -> None:
    body = b'{"Image": "busybox", "Cmd": [' + b"[]," * 200_000 + b"[]]}"
    status, message = api.error(
        "POST", "/containers/create", body, **{"Content-Type": "application/json"}
    )
    assert (status, message) == (400, "invalid JSON: more than 100000 values")


def test_an_upload_that_stalls_ends(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_IDLE_SECONDS", 0.2)
    with api.connect() as sock:
        sock.sendall(
            b"POST /images/create?fromSrc=- HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
        )
        answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400")
        while b"sent nothing for 0.2 s" not in answer:
            more = sock.recv(4096)
            assert more
            answer += more


@pytest.mark.parametrize(
    "head",
    [b"GET /_ping?" + b"x" * (2 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET /_ping?".ljust(1 << 20, b"x"),
     b"GET /_ping HTTP/1.1\r\nHost: x\r\nA: " + b"x" * (1 << 20) + b"\r\n\r\n",
     b"POST /_ping HTTP/1.1\r\nHost: x\r\nA: " + b"x" * (3 << 20) + b"\r\n\r\n",
     b"GET /_ping HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000 + b"\r\n"],
    ids=["line", "just-the-bound", "header", "header-of-a-post", "headers"],
)  # fmt: skip
def test_heads_of_requests_have_a_bound(api: ApiServer, head: bytes) -> None:
    with api.connect() as sock:
        with suppress(ConnectionError):
            sock.sendall(head)
        answer = b""
        with suppress(ConnectionError):
            answer = sock.recv(4096)
        assert not answer or answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.0 4")
    assert api.request("GET", "/_ping")[0] == 200


def test_a_network_is_inspected_with_the_use_of_its_addresses_on_request(api: ApiServer) -> None:
    assert "Status" not in api.json("GET", "/networks/bridge")
    status = api.json("GET", "/networks/bridge?verbose=true")["Status"]
    assert status == {
        "IPAM": {"Subnets": {"172.17.0.0/16": {"IPsInUse": 5, "DynamicIPsAvailable": 65531}}}
    }


def test_a_list_of_networks_reads_endpoints_only_for_its_filter(
    api: ApiServer, monkeypatch: Any
) -> None:
    """There may be thousands of them."""
    reads: list[str] = []
    monkeypatch.setattr(api.engine.networks, "occupied", lambda: reads.append("all") or set())
    assert len(api.json("GET", "/networks")) == 3
    assert not reads
    assert api.json("GET", f"/networks?filters={quote(json.dumps({'dangling': ['true']}))}") == []
    assert reads == ["all"]


def test_a_stream_of_changes_begins_with_all_networks(api: ApiServer) -> None:
    sock = api.connect()
    try:
        sock.sendall(b"GET /v1.51/netkit/watch?interval=60 HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = sock.makefile("rb")
        assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
        while b"Networks" not in (line := answer.readline()):
            assert line, "the stream ended"
        found = json.loads(line)
        names = {n["Name"] for n in api.json("GET", "/networks")}
        assert (found["Type"], {n["Name"] for n in found["Networks"].values()}) == ("state", names)
    finally:
        sock.close()


@pytest.mark.parametrize(
    ("query", "words"),
    [("interval=0.1", "must be from 0.2 to 60 s"), ("interval=soon", "a number of seconds"),
     ("interval=nan", "must be from 0.2 to 60 s")],
)  # fmt: skip
def test_a_stream_of_changes_that_cannot_begin_is_an_error(
    api: ApiServer, query: str, words: str
) -> None:
    status, text = api.error("GET", f"/netkit/watch?{query}")
    assert status == 400
    assert words in text


def test_statuses_of_the_engine_s_errors(api: ApiServer, monkeypatch: Any) -> None:
    assert api.error("POST", "/containers/create", {"Image": "no"}) == (
        404, "No such image: no:latest",
    )  # fmt: skip
    create(api, "true")
    assert api.error("POST", "/containers/create?name=c", {"Image": "busybox"})[0] == 409
    assert api.error("DELETE", "/networks/bridge")[0] == 403

    def broken(*args: Any) -> None:
        raise KernelError("the kernel refused")

    monkeypatch.setattr(api.engine.containers, "pause", broken)
    assert api.error("POST", "/containers/c/pause") == (500, "the kernel refused")

    def bug(*args: Any) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr(api.engine.containers, "pause", bug)
    assert api.error("POST", "/containers/c/pause") == (500, "internal error: RuntimeError: oops")


def test_starting_twice_and_stopping_twice_is_304(api: ApiServer) -> None:
    create(api, "sleep", "30")
    assert [api.request("POST", "/containers/c/start")[0] for _ in "12"] == [204, 304]
    assert [api.request("POST", "/containers/c/stop?t=1")[0] for _ in "12"] == [204, 304]


def test_start_with_a_body_is_refused_as_since_1_24(api: ApiServer) -> None:
    create(api, "true")
    status, message = api.error("POST", "/containers/c/start", {"Binds": ["/:/x"]})
    assert (status, "non-empty request body" in message) == (400, True)
    assert api.request("POST", "/containers/c/start", {})[0] == 204


@pytest.mark.parametrize(
    "path", ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs", "/nodes/x"]
)
def test_swarm_answers_503(api: ApiServer, path: str) -> None:
    status, message = api.error("GET", path)
    assert status == 503
    assert message.startswith('This node is not a swarm manager. Use "docker swarm init"')


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/build?version=2"),
        ("POST", "/session"), ("POST", "/grpc"), ("POST", "/swarm/init"),
        ("POST", "/swarm/join"), ("POST", "/plugins/pull"),
        ("GET", "/containers/x/checkpoints"), ("GET", "/containers/x/attach/ws"),
    ],
)  # fmt: skip
def test_what_is_not_there_yet_is_501_and_a_reason(api: ApiServer, method: str, path: str) -> None:
    status, message = api.error(method, path)
    assert status == 501
    assert re.search("not supported|no registry client|no swarm here", message)
    assert "\n" not in message


def test_wait_sends_its_headers_before_the_container_runs(api: ApiServer) -> None:
    create(api, "sh", "-c", "exit 9")
    with api.connect() as sock:
        sock.sendall(b"POST /containers/c/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n")
        head = sock.recv(4096)
        assert head.startswith(b"HTTP/1.1 200 OK")
        api.request("POST", "/containers/c/start")
        body = b""
        while b'{"StatusCode":9}' not in body:
            more = sock.recv(4096)
            assert more
            body += more
    assert api.error("POST", "/containers/c/wait?condition=never") == (
        400, 'invalid condition: "never"',
    )  # fmt: skip
    assert api.error("POST", "/containers/nothere/wait")[0] == 404


def test_events_are_subscribed_when_the_headers_come(api: ApiServer) -> None:
    with api.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK")
        create(api, "true")
        assert b'"Action":"create"' in sock.recv(4096)


def test_events_until_a_past_moment_end_at_once(api: ApiServer) -> None:
    create(api, "true")
    time.sleep(0.01)  # the moment below is rounded to milliseconds
    now = time.time()
    body = api.request("GET", f"/events?since={now - 10:.3f}&until={now:.3f}")[2]
    assert [json.loads(line)["Action"] for line in body.splitlines()] == ["create"]
    assert api.error("GET", "/events?since=5&until=4")[0] == 400
    assert api.error("GET", "/events?since=soon")[0] == 400
    assert api.error("GET", '/events?filters={"x":["y"]}') == (400, "Invalid filter 'x'")


def test_logs_need_a_stream(api: ApiServer) -> None:
    create(api, "true")
    assert api.error("GET", "/containers/c/logs") == (
        400, "Bad parameters: you must choose at least one stream",
    )  # fmt: skip
    kind = "content-type"
    new = api.request("GET", "/v1.42/containers/c/logs?stdout=1")[1][kind]
    old = api.request("GET", "/v1.41/containers/c/logs?stdout=1")[1][kind]
    assert new == "application/vnd.docker.multiplexed-stream"
    assert old == "application/vnd.docker.raw-stream"


def test_logs_that_cannot_be_read_are_a_status_at_once_and_a_frame_later(
    api: ApiServer, monkeypatch: Any
) -> None:
    create(api, "true")

    async def unreadable(ref: str, options: Any) -> AsyncIterator[tuple[int, bytes]]:
        raise NotSupported("configured logging driver does not support reading")
        yield 1, b""

    monkeypatch.setattr(api.engine.containers, "logs", unreadable)
    assert api.error("GET", "/containers/c/logs?stdout=1") == (
        501, "configured logging driver does not support reading",
    )  # fmt: skip

    async def breaking(ref: str, options: Any) -> AsyncIterator[tuple[int, bytes]]:
        yield 1, b"a"
        raise KernelError("the disk is gone")

    monkeypatch.setattr(api.engine.containers, "logs", breaking)
    status, _, body = api.request("GET", "/containers/c/logs?stdout=1")
    later = b"Error grabbing logs: the disk is gone\n"
    assert (status, body) == (200, frame(1, b"a") + frame(3, later))


def test_an_operation_goes_on_when_its_client_leaves(api: ApiServer, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    trap = "trap 'sleep 0.5; exit 0' TERM"
    create(api, "sh", "-c", f"{trap}; touch {ready}; while :; do sleep 0.05; done")
    api.request("POST", "/containers/c/start")
    until(ready.exists)
    with api.connect() as sock:
        sock.sendall(b"POST /containers/c/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.1)
    assert api.engine.containers.stops_ended == 0
    until(lambda: api.engine.containers.stops_ended == 1)


def test_reads_never_wait_for_operations(api: ApiServer, monkeypatch: Any) -> None:
    release, blocked = threading.Event(), []

    def slow(*args: Any) -> bool:
        blocked.append(1)
        return release.wait(60)  # longer than a request of ApiServer waits

    monkeypatch.setattr(api.engine.containers, "start", slow)
    create(api, "true")
    socks = [api.connect() for _ in range(80)]  # more than there are threads for operations
    try:
        for sock in socks:
            sock.sendall(
                b"POST /containers/c/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            )
        until(lambda: len(blocked) == 64)
        assert api.json("GET", "/containers/c/json")["Name"] == "/c"
        assert len(api.json("GET", "/containers/json?all=1")) == 1
        assert len(blocked) == 64
    finally:
        release.set()
        for sock in socks:
            sock.recv(100)
            sock.close()
    assert len(blocked) == 80


def test_an_upload_is_streamed_at_the_pace_of_its_reader(api: ApiServer, monkeypatch: Any) -> None:
    proceed, got = threading.Event(), []

    def slow(tar: BinaryIO) -> Iterator[str]:
        got.append(len(tar.read(1 << 16)))
        proceed.wait(20)
        while data := tar.read(1 << 20):
            got.append(len(data))
        yield f"Loaded image: {sum(got)}"

    monkeypatch.setattr(api.engine.images, "load", slow)
    total, sent = 64 << 20, []

    def send() -> None:
        for _ in range(total >> 16):
            sock.sendall(b"x" * (1 << 16))
            sent.append(1 << 16)

    with api.connect() as sock:
        sock.settimeout(30)
        sock.sendall(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
                     b"Content-Length: %d\r\n\r\n" % total)  # fmt: skip
        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(0.5)
        assert sum(sent) < 8 << 20  # the rest waits in the client, not in our memory
        proceed.set()
        sender.join(30)
        reply = b""
        while b"Loaded image" not in reply:
            reply += sock.recv(4096)
    assert f"Loaded image: {total}".encode() in reply


def test_a_client_that_breaks_off_an_upload_fails_the_operation(
    api: ApiServer, monkeypatch: Any
) -> None:
    failed: list[BaseException] = []

    def load(tar: BinaryIO) -> Iterator[str]:
        try:
            while tar.read(1 << 16):
                pass
        except OSError as error:
            failed.append(error)
            raise InvalidSpec("cut short") from error
        yield "Loaded image: never"

    monkeypatch.setattr(api.engine.images, "load", load)
    with api.connect() as sock:
        sock.sendall(b"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc")
        time.sleep(0.1)
    until(lambda: failed)


def test_a_failure_after_the_first_line_of_progress_is_in_the_stream(
    api: ApiServer, monkeypatch: Any
) -> None:
    def load(tar: BinaryIO) -> Iterator[str]:
        yield "Loaded image: one"
        raise InvalidSpec("two is broken")

    monkeypatch.setattr(api.engine.images, "load", load)
    status, headers, body = api.request("POST", "/images/load", b"x")
    lines = [json.loads(line) for line in body.splitlines()]
    assert (status, headers["content-type"]) == (200, "application/json")
    assert lines == [
        {"stream": "Loaded image: one\n"},
        {"errorDetail": {"message": "two is broken"}, "error": "two is broken"},
    ]


def test_a_download_that_fails_half_way_is_cut_off_not_ended(
    api: ApiServer, monkeypatch: Any
) -> None:
    closed = []

    def save(refs: list[str], layout: str) -> Iterator[bytes]:
        try:
            yield b"x" * 1000
            raise KernelError("the disk is gone")
        finally:
            closed.append(1)

    monkeypatch.setattr(api.engine.images, "save", save)
    with pytest.raises(http.client.IncompleteRead):
        api.request("GET", "/images/get?names=busybox")
    until(lambda: closed)


def test_a_download_whose_client_leaves_is_closed(api: ApiServer, monkeypatch: Any) -> None:
    closed = threading.Event()

    def export(ref: str) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    monkeypatch.setattr(api.engine.containers, "export", export)
    create(api, "true")
    with api.connect() as sock:
        sock.sendall(b"GET /containers/c/export HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(100)
    assert closed.wait(20)


def test_stats_fill_precpu_unless_one_shot(api: ApiServer) -> None:
    create(api, "sleep", "30")
    api.request("POST", "/containers/c/start")
    filled = api.json("GET", "/containers/c/stats?stream=0")
    assert filled["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert filled["preread"] < filled["read"]
    once = api.json("GET", "/containers/c/stats?stream=0&one-shot=1")
    assert once["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert api.error("GET", "/containers/c/stats?one-shot=1") == (
        400, "cannot have stream=true and one-shot=true",
    )  # fmt: skip


def test_a_stream_of_stats_ends_with_the_container(api: ApiServer) -> None:
    create(api, "sleep", "30")
    with api.connect() as sock:
        sock.sendall(b"GET /containers/c/stats HTTP/1.0\r\nHost: x\r\n\r\n")
        sock.recv(4096)
        api.request("DELETE", "/containers/c?force=1")
        while sock.recv(4096):
            pass


def test_a_long_filter_is_no_problem(api: ApiServer) -> None:
    filters = json.dumps({"label": [f"k{n}=v" for n in range(5000)]}).replace(" ", "")
    assert api.json("GET", f"/containers/json?filters={filters}") == []


def test_two_requests_on_one_connection(api: ApiServer) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = api.connect()
    for _ in range(2):
        connection.request("GET", "/_ping")
        assert connection.getresponse().read() == b"OK"
    connection.close()


def test_options_is_answered_without_allowing_anything(api: ApiServer) -> None:
    status, headers, _ = api.request("OPTIONS", "/containers/json")
    assert status == 200
    assert "access-control-allow-origin" not in headers


def test_closing_the_server_ends_streams_and_removes_the_socket(tmp_path: Path) -> None:
    with ApiServer(tmp_path) as api:
        sock = api.connect()
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(4096)
        begun = time.monotonic()
    assert time.monotonic() - begun < 30  # and not the minute that aiohttp gives handlers
    assert not api.path.exists()
    with sock, pytest.raises((ConnectionError, AssertionError)):
        assert sock.recv(10, socket.MSG_PEEK)


def test_what_a_failed_request_held_is_freed_with_it(api: ApiServer) -> None:
    """An error is in a cycle with each frame of its traceback that has it, or its future, as a
    variable; what the request held stays until the collector comes by, which takes long."""

    def fails(*_: object, **__: object) -> None:
        raise NoRoom("full")

    api.engine.containers.create = fails  # type: ignore[method-assign,assignment]
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/containers/create", {"Image": "busybox", "Cmd": ["x"]}),
        ("POST", "/containers/nosuch/start", None),
        ("GET", "/containers/nosuch/json", None),
        ("GET", "/containers/nosuch/logs?stdout=1", None),
        ("POST", "/containers/create", {"Image": 5}),
        ("POST", "/images/create?fromSrc=-", None),
        ("POST", "/exec/nosuch/start", {}),
        ("GET", "/containers/nosuch/archive?path=/", None),
        ("GET", "/images/nosuch/get", None),
    ]
    api.error(*requests[0])
    gc.collect()
    gc.disable()
    try:
        for method, path, body in requests:
            status, answer = api.error(method, path, body)
            assert status >= 400, (path, answer)
        time.sleep(0.2)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [repr(o) for o in gc.garbage if isinstance(o, (BaseException, web.Request))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left
