"""A registry on loopback that says what a test has it say, and records what it was asked."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
Answer = bytes | Callable[[socket.socket], None]


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return f"{self.method} {self.path} {self.headers} {self.body!r}"


def reply(
    status: int = 200, body: bytes = b"", kind: str = "application/json", **headers: str
) -> bytes:
    """A whole answer; headers' names have _ for -."""
    given = {"Content-Type": kind, "Content-Length": str(len(body))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in given.items() if v != "-")]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def errors(status: int, code: str, message: str, **headers: str) -> bytes:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return reply(status, body, **headers)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_tar(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members or (("file", b"x" * 200_000),):
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(content), os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@dataclass
class Image:
    """A valid image, of which a test may spoil any part before it is served."""

    tar: bytes = field(default_factory=layer_tar)
    blob: bytes = b""  # the layer, compressed; by default of `tar`, hardly smaller
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blob = self.blob or gzip.compress(self.tar, 0, mtime=0)
        self.config = self.config or {
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(self.tar)]},
        }  # fmt: skip

    @property
    def raw_config(self) -> bytes:
        return json.dumps(self.config).encode()

    def manifest(self) -> dict[str, Any]:
        raw = self.raw_config
        return {
            "schemaVersion": 2, "mediaType": DOCKER,
            "config": {"mediaType": CONFIG, "size": len(raw), "digest": digest(raw)},
            "layers": [
                {"mediaType": LAYER, "size": len(self.blob), "digest": digest(self.blob)}
            ],
        }  # fmt: skip


class Server:
    """Answers by `answers`: "METHOD path-prefix" to bytes or a function of the socket.

    The longest prefix that fits is taken; a list gives its answers in turn, the last one on and on.
    """

    def __init__(self, address: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.asked: list[Asked] = []
        self._context = context
        self._listener = socket.create_server((address, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.name = f"{address}:{self.port}"
        self._open: set[socket.socket] = set()
        self.closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def serve(self, image: Image, path: str = "app", tag: str = "1") -> bytes:
        """Serve an image as a well-behaved registry does; its manifest."""
        raw = json.dumps(image.manifest()).encode()
        return self.serve_manifest(raw, image, path, tag)

    def serve_manifest(
        self, raw: bytes, image: Image, path: str = "app", tag: str = "1", kind: str = DOCKER
    ) -> bytes:
        self.answers.setdefault("GET /v2/", reply(200, b"{}"))
        answer = reply(200, raw, kind, Docker_Content_Digest=digest(raw))
        for name in (tag, digest(raw)):
            self.answers[f"HEAD /v2/{path}/manifests/{name}"] = answer.partition(b"\r\n\r\n")[
                0
            ] + b"\r\n\r\n"
            self.answers[f"GET /v2/{path}/manifests/{name}"] = answer
        for data in (image.raw_config, image.blob):
            self.answers[f"GET /v2/{path}/blobs/{digest(data)}"] = reply(
                200, data, "application/octet-stream"
            )
        return raw

    def close(self) -> None:
        self.closed.set()
        self._listener.close()
        for sock in list(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while not self.closed.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        self._open.add(sock)
        with suppress(OSError, ValueError), sock:
            sock.settimeout(30)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            elif sock.recv(1, socket.MSG_PEEK) == b"\x16":
                return  # a TLS handshake: servers without TLS close, too
            with sock.makefile("rb") as file:
                while line := file.readline(65537):
                    asked = _read(line.decode("latin-1"), file)
                    self.asked.append(asked)
                    answer = self._answer(asked)
                    if callable(answer):
                        answer(sock)
                        return
                    sock.sendall(answer)
        self._open.discard(sock)

    def _answer(self, asked: Asked) -> Answer:
        line = f"{asked.method} {asked.path}"
        fits = (k for k in self.answers if line == k or (line.startswith(k) and k[-4:] != "/v2/"))
        found = max(fits, key=len, default="")
        answer = self.answers.get(found, reply(404, b"page not found", "text/plain"))
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer


def _read(line: str, file: Any) -> Asked:
    method, path, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (text := file.readline(65537).decode("latin-1").strip()) != "":
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(file.readline().strip() or b"0", 16):
            body += file.read(size)
            file.readline()
        file.readline()
    else:
        body = file.read(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body)


# what a bad server does with the socket


def hang(sock: socket.socket) -> None:
    """Say nothing until the client goes."""
    with suppress(OSError):
        sock.recv(1)


def close(sock: socket.socket) -> None:
    """Say nothing more."""


def then(data: bytes, after: Callable[[socket.socket], None] = close) -> Answer:
    def act(sock: socket.socket) -> None:
        sock.sendall(data)
        after(sock)

    return act


def endlessly(head: bytes, piece: bytes) -> Answer:
    def act(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(piece)

    return act


def dripping(head: bytes, piece: bytes = b"x", pause: float = 0.1) -> Answer:
    def act(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(piece)
            time.sleep(pause)

    return act
