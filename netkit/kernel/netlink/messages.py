"""Requests and replies as pyroute2's message classes, over sockets of ours.

For all that is not asked while containers start and stop: the formats are pyroute2's, which takes
0.04 to 0.12 ms to read a message where `codec.attributes` takes 0.004.  Of pyroute2 0.9.7 only the
messages, because its sockets would take from a caller what `codec.Netlink` gives:

* a dump that changed while it was read (NLM_F_DUMP_INTR) is asked for again, not returned as whole;
* no answer is awaited for ever;
* DiagSocket reads no errors: the kernel's refusal ends in a parser's exception;
* another network namespace is entered without a fork, and a thread may run an event loop.

Import this module's users' classes where they are used: pyroute2 takes 0.3 s to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netkit.kernel.netlink.codec import HEADER, Netlink, Reply, Request

Message = Any  # pyroute2.netlink.nlmsg, which has no annotations


def request(kind: int, message: Message, fields: Mapping[str, object], flags: int = 0) -> Request:
    """Encode `message`, a new object of one of pyroute2's classes, with these fields.

    `attrs` is a list of (name, value), as everywhere in pyroute2.
    """
    for name, value in fields.items():
        message[name] = value
    message.encode()
    return Request(kind, bytes(message.data[HEADER.size :]), flags)


def decoded(of: Message, payload: bytes) -> Message:
    """An object of class `of` from what follows the header of a netlink message."""
    message = of(HEADER.pack(HEADER.size + len(payload), 0, 0, 0, 0) + payload)
    message.decode()
    return message


def dump(
    netlink: Netlink, kind: int, ask: Message, of: Message, fields: Mapping[str, object]
) -> Iterator[Message]:
    """List objects of class `of`; nothing where what is asked for does not exist."""
    for payload in netlink.dump(request(kind, ask, fields)):
        yield decoded(of, payload)


def first(reply: Reply, of: Message) -> Message | None:
    """The message of a reply; None where the kernel refused, or sent none."""
    return decoded(of, reply.messages[0]) if reply.messages and not reply.errno else None
