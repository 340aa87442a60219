"""Read and change a bridge's flows in OpenFlow by its management socket: 1 ms, not a process.

    header       version 1 | type 1 | length 2 | xid 4
    flow stats   length 2 | table 1 | pad 1 | duration 8 | priority 2 | timeouts 4 | flags 2 |
                 importance 2 | pad 2 | cookie 8 | packets 8 | bytes 8 | match | instructions

Only fields that identify our flows are read.  Source: OpenFlow Switch Specification 1.4.0, A.2,
A.3.5.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netkit.errors import KernelError

VERSION = 5  # OpenFlow 1.4
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, MULTIPART_REQUEST, MULTIPART_REPLY = 0, 1, 2, 3, 18, 19
BARRIER_REQUEST, BARRIER_REPLY, BUNDLE_CONTROL = 20, 21, 33
FLOWS, MORE = 1, 1
ANY, ALL_TABLES = 0xFFFFFFFF, 0xFF
LARGEST_PORT = 0xFFFFFF00  # above are LOCAL, NORMAL and their like
IN_PORT = 0x80000004  # OXM header: class, field, length
APPLY_ACTIONS, OUTPUT = 4, 0
PATIENCE = 5.0  # seconds
BUNDLE_PATIENCE = 20.0  # seconds

_HEADER = struct.Struct("!BBHI")
_MULTIPART = struct.Struct("!HH4x")
_REQUEST = struct.Struct("!B3xII4xQQHH4x")  # ends with a match of everything
_ENTRY = struct.Struct("!HBxIIHHHHH2xQQQ")


@dataclass(frozen=True, slots=True)
class Flow:
    cookie: int
    ports: frozenset[int]  # that it matches or puts packets out to


def flows(path: str, cookie: int, mask: int) -> list[Flow]:
    """List the flows whose cookie is `cookie` under `mask`.  OSError if no switch listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(PATIENCE)
        s.connect(path)
        s.sendall(_HEADER.pack(VERSION, HELLO, _HEADER.size, 0))
        body = _MULTIPART.pack(FLOWS, 0)
        body += _REQUEST.pack(ALL_TABLES, ANY, ANY, cookie, mask, 1, 4)
        s.sendall(_HEADER.pack(VERSION, MULTIPART_REQUEST, _HEADER.size + len(body), 1) + body)
        return list(_answer(s, path))


def send_bundle(path: str, messages: Sequence[bytes], commit: bytes) -> None:
    """Open and fill a bundle by `messages`, and commit it: all of it takes effect, or nothing.

    `commit` is sent once the switch has accepted the others, as a barrier shows.  KernelError where
    it refuses; `unsure` if it did not answer to `commit`.  OSError if no switch listens, or it does
    not answer before that.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(BUNDLE_PATIENCE)
        s.connect(path)
        barrier = _HEADER.pack(VERSION, BARRIER_REQUEST, _HEADER.size, 0)
        s.sendall(_HEADER.pack(VERSION, HELLO, _HEADER.size, 0) + b"".join(messages) + barrier)
        _await(s, path, BARRIER_REPLY, 0)
        try:
            s.sendall(commit)
            _await(s, path, BUNDLE_CONTROL, _HEADER.unpack_from(commit)[3])
        except OSError as e:
            why = f"{path} did not answer to the commit of a bundle: {e}"
            raise KernelError(why, unsure=True) from e


def _await(s: socket.socket, path: str, kind: int, xid: int) -> None:
    """Read up to this message.  KernelError for the first error that comes before it."""
    for found, number, body in _messages(s, path):
        if found == ERROR:
            kind_, code = struct.unpack_from("!HH", body)
            raise KernelError(f"{path} refused a flow: error {kind_}.{code} of OpenFlow 1.4")
        if (found, number) == (kind, xid):
            return


def serves(path: str, patience: float) -> bool:
    """Whether the switch sends OFPT_HELLO within `patience` s.  OSError if none listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(patience)
        try:
            s.connect(path)
            _exactly(s, _HEADER.size)
        except TimeoutError:
            return False
        return True


def _messages(s: socket.socket, path: str) -> Iterator[tuple[int, int, bytes]]:
    """(type, xid, body) of each message that comes; echo requests are answered."""
    while True:
        version, kind, length, xid = _HEADER.unpack(_exactly(s, _HEADER.size))
        body = _exactly(s, length - _HEADER.size)
        if kind == HELLO and version < VERSION:
            raise KernelError(f"{path} does not speak OpenFlow 1.4: {body.hex()}")
        if kind == ECHO_REQUEST:
            s.sendall(_HEADER.pack(VERSION, ECHO_REPLY, length, xid) + body)
        yield kind, xid, body


def _answer(s: socket.socket, path: str) -> Iterator[Flow]:
    for kind, _, body in _messages(s, path):
        if kind == ERROR:
            raise KernelError(f"{path} does not speak OpenFlow 1.4: {body.hex()}")
        if kind != MULTIPART_REPLY:
            continue
        yield from _entries(body[_MULTIPART.size :])
        if not _MULTIPART.unpack_from(body)[1] & MORE:
            return


def _exactly(s: socket.socket, amount: int) -> bytes:
    out = b""
    while len(out) < amount:
        chunk = s.recv(amount - len(out))
        if not chunk:
            raise ConnectionError("the connection was closed")
        out += chunk
    return out


def _entries(body: bytes) -> Iterator[Flow]:
    at = 0
    while at < len(body):
        length, *_, cookie, _, _ = _ENTRY.unpack_from(body, at)
        rest = body[at + _ENTRY.size : at + length]
        size = struct.unpack_from("!H", rest, 2)[0]  # of the match, which is padded to 8 bytes
        ports = {*_matched(rest[4:size]), *_outputs(rest[(size + 7) // 8 * 8 :])}
        yield Flow(cookie, frozenset(p for p in ports if p < LARGEST_PORT))
        at += length


def _matched(fields: bytes) -> Iterator[int]:
    at = 0
    while at < len(fields):
        (header,) = struct.unpack_from("!I", fields, at)
        if header == IN_PORT:
            yield struct.unpack_from("!I", fields, at + 4)[0]
        at += 4 + (header & 0xFF)


def _outputs(instructions: bytes) -> Iterator[int]:
    at = 0
    while at < len(instructions):
        kind, length = struct.unpack_from("!HH", instructions, at)
        inner, end = at + 8, at + length
        while kind == APPLY_ACTIONS and inner < end:
            action, size = struct.unpack_from("!HH", instructions, inner)
            if action == OUTPUT:
                yield struct.unpack_from("!I", instructions, inner + 4)[0]
            inner += size
        at += length
