"""Parse request heads as far as needed: their end, the body's length, bare line feeds."""

from __future__ import annotations

import re

from runtime import limits

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_UNREADABLE = re.compile(rb"\r\n(?:content-length[^\r]*\r\n)(?:.*\r\n)?content-length", re.I | re.S)
_FIRST_LINE = re.compile(rb"[A-Z]+ [^ ]+ HTTP/1\.[01]\r?\n")
_END = re.compile(rb"\n\r?\n")
_BARE = re.compile(rb"(?<!\r)\n")
TOO_LONG = (
    "431 Request Header Fields Too Large",
    f"the head of the request is longer than {limits.LINE_BYTES} bytes",
)
_HOST = re.compile(rb"\r\nhost[ \t]*:", re.IGNORECASE)
_LONGEST_LENGTH = 18  # digits: below 2**63


def end(head: bytes | bytearray, start: int = 0) -> int:
    """Offset of the body; 0 if the head is incomplete.  It does not end before `start`."""
    found = _END.search(head, start)
    return found.end() if found else 0


def may_become(head: bytearray) -> bool:
    """Can more bytes make it a valid head?  If not, aiohttp gets it and reports the error."""
    if not head[:1].isalpha():
        return not head
    return b"\n" not in head or _FIRST_LINE.match(head) is not None


def strict(head: bytes, *, local: bool) -> bytes:
    """Replace bare LF by CRLF; `local`: add a Host header if there is none."""
    head = _BARE.sub(b"\r\n", head)
    if local and head.endswith(b"\r\n\r\n") and not _HOST.search(head):
        head = head[:-2] + b"Host: localhost\r\n\r\n"
    return head


def unmeasured(head: bytes) -> bool:
    """Is the body's length unknown from the head?"""
    return bool(not head or _CHUNKED.search(head) or _UNREADABLE.search(head))


def length(head: bytes) -> int:
    """Bytes of the body.  ValueError for more digits than a length has."""
    found = _LENGTH.search(head)
    digits = found[1].lstrip(b"0") if found else b""
    if len(digits) > _LONGEST_LENGTH:
        raise ValueError(f"invalid Content-Length: over {_LONGEST_LENGTH} digits")
    return int(digits or b"0")


def refusal(status: str, message: str) -> bytes:
    body = b'{"message":"%s"}\n' % message.encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
