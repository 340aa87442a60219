"""Requests of many clients at once, with next to no processor time of the clients' own.

A client is a generator: it yields requests, one after another, and is sent each one's answer.  All
of them are served by one thread, over a connection for each request; so what is measured is the
engine, not fifty command lines.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Generator, Sequence
from typing import Any

from bench.peers import IMAGE, Peer

LIMIT = 300.0  # seconds without any answer
Request = tuple[str, str, Any]  # method, path, body or None
Client = Generator[Request, Any, str]


def started(command: Sequence[str] = ("sleep", "1000000")) -> Client:
    """`run -d`; the container's id."""
    body = {"Image": IMAGE, "Cmd": list(command)}
    made = yield "POST", "/containers/create", body
    yield "POST", f"/containers/{made['Id']}/start", None
    return str(made["Id"])


def removed(ident: str) -> Client:
    """`rm -f`; the id."""
    yield "DELETE", f"/containers/{ident}?force=1", None
    return ident


def run(peer: Peer, clients: Sequence[Client]) -> list[str]:
    """Serve all clients until the last has ended; what they return.  RuntimeError if one fails."""
    results: dict[Client, str] = {}
    waiting = {}
    poll = select.poll()

    def next_request(client: Client, answer: Any) -> None:
        try:
            request = client.send(answer)
        except StopIteration as end:
            results[client] = end.value
            return
        connection = _sent(peer.host, request)
        waiting[connection.fileno()] = (client, connection, request, bytearray())
        poll.register(connection, select.POLLIN)

    for client in clients:
        next_request(client, None)
    while waiting:
        ready = poll.poll(LIMIT * 1000)
        if not ready:
            raise RuntimeError(f"{peer.name}: {len(waiting)} requests are not answered")
        for fd, _ in ready:
            client, connection, request, received = waiting[fd]
            if piece := connection.recv(65536):
                received += piece
                continue
            poll.unregister(fd)
            del waiting[fd]
            connection.close()
            next_request(client, _answer(request, bytes(received)))
    return [results[client] for client in clients]


def _sent(host: str, request: Request) -> socket.socket:
    method, path, body = request
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} /v1.41{path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(host.removeprefix("unix://"))
    connection.sendall(head.encode() + content)
    return connection


def _answer(request: Request, received: bytes) -> Any:
    """The document of an answer; None where there is none."""
    head, _, content = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status >= 300:
        raise RuntimeError(f"{request[0]} {request[1]}: {status} {content.decode()[:300]}")
    begin, end = content.find(b"{"), content.rfind(b"}")  # whatever the transfer's encoding
    return json.loads(content[begin : end + 1]) if begin >= 0 else None
