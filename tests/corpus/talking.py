"""HTTP to the daemon under test, and Docker's streams of objects."""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.parse
from collections.abc import Mapping
from typing import Any

API = os.environ.get("NKC_API", "1.41")
_DROPPED = b'{"error":"<connection dropped>","errorDetail":{"message":"<connection dropped>"}}'


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str) -> None:
        super().__init__("localhost")
        self._path = host.removeprefix("unix://")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(180)
        self.sock.connect(self._path)


class Daemon:
    def __init__(self, host: str) -> None:
        self.host = host

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> tuple[int, bytes]:
        """(status, body); JSON is made of dictionaries and lists."""
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        given = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = _Connection(self.host)
        try:
            connection.request(method, f"/v{API}{path}", body=body, headers=given)
            reply = connection.getresponse()
            try:
                return reply.status, reply.read()
            except http.client.IncompleteRead as error:
                return reply.status, error.partial + _DROPPED
        finally:
            connection.close()

    def json(self, *args: Any, **options: Any) -> tuple[int, Any]:
        status, data = self.call(*args, **options)
        try:
            return status, json.loads(data) if data.strip() else None
        except ValueError:
            return status, data.decode("utf-8", "replace")

    def tar(self, path: str, data: bytes, query: Mapping[str, Any]) -> tuple[int, bytes]:
        return self.call(
            "POST", path, body=data, headers={"Content-Type": "application/x-tar"}, query=query
        )


def objects(data: bytes) -> list[Any]:
    """The objects of a stream."""
    text, found, decoder, at = data.decode("utf-8", "replace"), [], json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found
