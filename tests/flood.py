"""A flood of hostile connections against a real netkitd: its memory, and its other clients.

    sudo .venv/bin/python -m tests.flood                 # every kind in turn, then all at once
    sudo .venv/bin/python -m tests.flood --only attach   # what has it in its name

Each kind opens as many connections as the engine admits, sends what it can, and reads nothing.
Meanwhile a client that reads its answers pings, lists and creates.  Exit 1 if the engine took
more than MOST_MEMORY, or the client was not served within MOST_SECONDS.
"""

from __future__ import annotations

import argparse
import http.client
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.daemon import Engine, alone

MOST_MEMORY = 150 << 20  # bytes; docs/limits.md
MOST_SECONDS = 5.0  # of one answer, on a busy machine
BLOCK = bytes(1 << 18)
JSON = "Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """What one connection sends: `first`, then `more` for as long as it is accepted."""

    first: bytes
    more: bytes = b""
    slowly: bool = False  # a byte a second
    halved: bool = False  # closes its sending half after `first`


def request(method: str, path: str, fields: str = "", body: bytes = b"") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode() + body


def posted(path: str, length: int, body: bytes, kind: str = JSON) -> bytes:
    return request("POST", path, f"{kind}Content-Length: {length}\r\n", body)


UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
FIELDS = "".join(f"X{n}: {'x' * 60_000}\r\n" for n in range(16))
LABEL = json.dumps({"Image": "busybox", "Cmd": ["x"], "Labels": {"x": "y" * 1_000_000}}).encode()
VALUES = json.dumps({"Image": "nosuch", "Labels": {f"{n:x}": "" for n in range(78_000)}}).encode()
EVENTS = request("GET", "/events?since=1")

KINDS: dict[str, Callable[[], Hostile]] = {
    "idle": lambda: Hostile(first=b""),
    "kept alive": lambda: Hostile(first=request("GET", "/_ping")),
    "slow heads": lambda: Hostile(first=b"GET /x HTTP/1.1\r\nX: ", more=b"x", slowly=True),
    "large slow heads": lambda: Hostile(
        first=b"GET /x HTTP/1.1\r\n" + FIELDS.encode(), more=b"X", slowly=True
    ),
    "largest heads": lambda: Hostile(first=request("GET", "/events", FIELDS)),
    "heads of 15 KiB": lambda: Hostile(first=request("GET", "/events", f"X: {'x' * 15_000}\r\n")),
    "small bodies": lambda: Hostile(
        first=posted("/containers/create", 65_536, b"{" + b" " * 65_000), more=b" ", slowly=True
    ),
    "largest bodies": lambda: Hostile(
        first=posted("/containers/create", 1 << 20, b"{" + b" " * 1_000_000), more=b" ", slowly=True
    ),
    "whole bodies": lambda: Hostile(
        first=posted("/containers/create", len(VALUES), VALUES),
        more=posted("/containers/create", len(VALUES), VALUES),
    ),
    "uploads": lambda: Hostile(
        first=posted("/images/load", 1 << 40, b"", "Content-Type: application/x-tar\r\n"),
        more=BLOCK,
    ),
    "bodies not read": lambda: Hostile(
        first=request("GET", "/events", "Content-Length: 1000000000\r\n"), more=BLOCK
    ),
    "chunks not read": lambda: Hostile(
        first=request("GET", "/events", "Transfer-Encoding: chunked\r\n"),
        more=b"40000\r\n" + BLOCK + b"\r\n",
    ),
    "pipelines": lambda: Hostile(first=EVENTS, more=request("GET", "/_ping") * 1000),
    "events": lambda: Hostile(first=EVENTS),
    "events, half-closed": lambda: Hostile(first=EVENTS, halved=True),
    "lists": lambda: Hostile(
        first=request("GET", "/containers/json?all=1"),
        more=request("GET", "/containers/json?all=1"),
    ),
    "system df": lambda: Hostile(first=request("GET", "/system/df")),
    "logs": lambda: Hostile(first=request("GET", "/containers/loud/logs?follow=1&stdout=1")),
    "logs, half-closed": lambda: Hostile(
        first=request("GET", "/containers/loud/logs?follow=1&stdout=1"), halved=True
    ),
    "attach": lambda: Hostile(
        first=request("POST", "/containers/loud/attach?stream=1&stdout=1&stdin=1", UPGRADE)
    ),
    "attach, input": lambda: Hostile(
        first=request("POST", "/containers/deaf/attach?stream=1&stdin=1", UPGRADE), more=BLOCK
    ),
    "attach, half-closed": lambda: Hostile(
        first=request("POST", "/containers/loud/attach?stream=1&stdout=1", UPGRADE), halved=True
    ),
    "stats": lambda: Hostile(first=request("GET", "/containers/loud/stats")),
    "export": lambda: Hostile(first=request("GET", "/containers/loud/export")),
    "save": lambda: Hostile(first=request("GET", "/images/busybox/get")),
}


class Flood:
    """Many connections of one client process; `run` opens them again when they are closed."""

    def __init__(self, path: Path, kinds: list[Callable[[], Hostile]], size: int) -> None:
        self._path, self._kinds, self._size = str(path), kinds, size
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, tuple[Hostile, memoryview]] = {}
        self._made = 0
        self.closed = 0

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        trickle = 0.0
        while (now := time.monotonic()) < end:
            self._fill()
            for key, _ in self._selector.select(0.05):
                assert isinstance(key.fileobj, socket.socket)
                self._send(key.fileobj)
            if now - trickle >= 1:
                trickle = now
                self._trickle()

    def close(self) -> None:
        for sock in list(self._open):
            self._drop(sock)

    @property
    def open(self) -> int:
        return len(self._open)

    def _fill(self) -> None:
        for _ in range(min(64, self._size - len(self._open))):
            hostile = self._kinds[self._made % len(self._kinds)]()
            self._made += 1
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(self._path)
            except OSError:
                sock.close()
                return
            self._open[sock] = (hostile, memoryview(hostile.first))
            self._selector.register(sock, selectors.EVENT_WRITE)

    def _send(self, sock: socket.socket) -> None:
        hostile, left = self._open[sock]
        try:
            if left:
                left = left[sock.send(left) :]
        except BlockingIOError:
            return
        except OSError:
            self.closed += 1
            self._drop(sock)
            return
        if not left and hostile.halved:
            sock.shutdown(socket.SHUT_WR)
        if not left and hostile.more and not hostile.slowly:
            left = memoryview(hostile.more)
        self._open[sock] = (hostile, left)
        if not left:
            self._selector.unregister(sock)

    def _trickle(self) -> None:
        for sock, (hostile, left) in list(self._open.items()):
            if left:
                continue
            try:
                if hostile.slowly:
                    sock.send(hostile.more)
                elif sock.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                self.closed += 1
                self._drop(sock, registered=False)

    def _drop(self, sock: socket.socket, registered: bool = True) -> None:
        if registered and sock in self._selector.get_map():
            self._selector.unregister(sock)
        del self._open[sock]
        sock.close()


class Polite(threading.Thread):
    """A client that reads its answers and records their times (seconds) and failures."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = str(path)
        self._over = threading.Event()
        self.slowest: dict[str, float] = {}
        self.failed: list[str] = []

    def run(self) -> None:
        n = 0
        while not self._over.wait(0.2):
            n += 1
            body = json.dumps({"Image": "busybox", "Cmd": ["x"]})
            self._ask("GET", "/_ping")
            self._ask("GET", "/containers/json")
            self._ask("POST", f"/containers/create?name=polite{n}", body)
            self._ask("DELETE", f"/containers/polite{n}")

    def end(self) -> None:
        self._over.set()
        self.join()

    def _ask(self, method: str, path: str, body: str | None = None) -> None:
        name = f"{method} {path.partition('?')[0].rstrip('0123456789')}"
        begun = time.monotonic()
        try:
            status = ask(self._path, method, path, body)[0]
            if status >= 300:
                self.failed.append(f"{name}: {status}")
        except OSError as error:
            self.failed.append(f"{name}: {error!r}")
        except http.client.HTTPException as error:
            self.failed.append(f"{name}: {error!r}")
        took = time.monotonic() - begun
        self.slowest[name] = max(self.slowest.get(name, 0), took)


def ask(path: str, method: str, target: str, body: str | bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    try:
        connection.sock.connect(path)
        connection.request(method, target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def memory(engine: Engine, field: str) -> int:
    for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(field)


def peak(engine: Engine) -> Iterator[float]:
    """Yield the present memory in MiB, then the highest since then."""
    Path(f"/proc/{engine.pid}/clear_refs").write_text("5")
    yield memory(engine, "VmRSS") / 1024
    yield memory(engine, "VmHWM") / 1024


def prepare(engine: Engine) -> None:
    """Make what hostile clients read: large containers, a log, talkers, one that reads no input."""
    for n in range(4):
        status, reply = ask(str(engine.socket), "POST", f"/containers/create?name=large{n}", LABEL)
        assert status == 201, reply
    loud = "yes 0123456789012345678901234567890123456789 | head -c 20000000; exec yes loud"
    engine.up("-i", "busybox", "sh", "-c", loud, name="loud")
    engine.up("-i", "busybox", "sleep", "100000", name="deaf")


def flooded(engine: Engine, name: str, kinds: list[Callable[[], Hostile]], o: Any) -> bool:
    flood, polite = Flood(engine.socket, kinds, o.connections), Polite(engine.socket)
    heights = peak(engine)
    before = next(heights)
    polite.start()
    flood.run(o.seconds)
    during, held = next(heights), flood.open
    flood.close()
    time.sleep(1.5)
    polite.end()
    after = memory(engine, "VmRSS") / 1024
    slow, slowest = max(polite.slowest.items(), key=lambda item: item[1])
    print(
        f"{name:22} {before:6.1f} {during:7.1f} {after:6.1f} MiB  {slowest:5.2f} s {slow}"
        f"  {held} open, {flood.closed} closed, {len(polite.failed)} failed {polite.failed[:3]}",
        flush=True,
    )
    return during < MOST_MEMORY >> 20 and slowest < MOST_SECONDS and not polite.failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8, help="of each kind")
    parser.add_argument("--only", default="", help="kinds with this in their name")
    o = parser.parse_args()
    kinds = {name: [kind] for name, kind in KINDS.items()} | {"all at once": [*KINDS.values()]}
    if not any(o.only in name for name in kinds):
        parser.error(f"--only {o.only}: no such kind (there are: {', '.join(kinds)})")
    good = True
    print(f"{'kind':22} before  during  after      slowest answer")
    for name, some in kinds.items():
        if o.only in name:
            with alone() as engine:  # memory that one kind leaves in pieces is not another's
                prepare(engine)
                if not flooded(engine, name, some, o):
                    print(engine.log_tail()[-1500:], file=sys.stderr)
                    good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
