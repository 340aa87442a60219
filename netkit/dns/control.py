"""The protocol of netkitd and the resolver: JSON over SOCK_SEQPACKET, sockets as ancillary data.

Every message of the daemon is answered by one of the resolver: {} or what was asked for, or
{"error": why}.

    {"do": "zone", "id", "name", "domain", "below", "reset", "more", "names", "dotted", "reverse"}
                     what changes in a zone, null for what is removed; `reset`: this is all of it;
                     `more`: the next message goes on, and until the last nothing changes
    {"do": "set", "id", "ns", "zones", "links", "upstreams", "forward"}  + UDP and TCP sockets
    {"do": "update", the same without "ns"}                              without sockets
    {"do": "remove", "id"}     both answer {"dropped": ids of zones no sandbox needs any more}
    {"do": "list", "after": id}    {"sandboxes": {id: ns}, "pid": its number, "more", "digests"}, of
                     ids after that one the first LISTED in alphabetical order; `more`: there are
                     others; `digests` of their views, in this order
    {"do": "quit"}
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from netkit.dns.zones import ResolverView, Zone

Message = dict[str, Any]

LISTED = 1000  # sandboxes in one answer, of 120 bytes each
LARGEST = 256 * 1024  # bytes of one message, what a socket's buffer takes by default
CHUNK = 64 * 1024  # of a zone's content in one message
MAPPINGS = ("names", "dotted", "reverse")  # of a zone
ADDRESS, PORT = "127.0.0.11", 53  # in every container's namespace
BESIDE = "127.0.0.12"  # in those of an engine with a resolver of its own


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    socket.send_fds(sock, [json.dumps(message, separators=(",", ":")).encode()], list(fds))


def receive(sock: socket.socket) -> tuple[Message, list[int]]:
    """One message and its descriptors, the caller's to close.  EOFError if the peer has closed.

    ValueError if it is none.
    """
    data, fds, flags, _ = socket.recv_fds(sock, LARGEST, 4, socket.MSG_CMSG_CLOEXEC)
    try:
        if not data:
            raise EOFError("the other side closed the connection")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError(f"a message of more than {LARGEST} bytes")
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds


def zone_messages(zone: Zone, known: Zone | None) -> Iterator[Message]:
    """Yield the messages that change a resolver's zone from `known`, or none, to `zone`."""
    if known is zone:
        return
    same = known is not None and (known.domain, known.below) == (zone.domain, zone.below)
    parts = [
        {kind: part}
        for kind in MAPPINGS
        for part in _chunks(_changes(getattr(zone, kind), getattr(known, kind) if known else {}))
    ]
    if same and not parts:
        return
    head = {
        "do": "zone", "id": zone.id, "name": zone.name, "domain": zone.domain,
        "below": list(zone.below), "reset": known is None,
    }  # fmt: skip
    for n, part in enumerate(parts or [{}], 1):
        yield {**head, "more": n < len(parts), **part}


def changed_zone(zone: Zone | None, messages: Sequence[Message]) -> Zone:
    """Return the zone after these messages, all that `zone_messages` gave."""
    first = messages[0]
    old = None if first["reset"] else zone
    names = _changed(old.names if old else {}, messages, "names")
    dotted = _changed(old.dotted if old else {}, messages, "dotted")
    return Zone(
        id=first["id"],
        name=first["name"],
        names={name: tuple(found) for name, found in names.items()},
        reverse=_changed(old.reverse if old else {}, messages, "reverse"),
        domain=first.get("domain", ""),
        below=tuple(first.get("below", ())),
        dotted={name: tuple(found) for name, found in dotted.items()},
    )


def view_fields(view: ResolverView) -> Message:
    """Return a view but for the content of its zones."""
    return {
        "zones": [z.id for z in view.zones],
        "links": {alias: list(found) for alias, found in view.links.items()},
        "upstreams": list(view.upstreams),
        "forward": view.forward,
    }


class Digests:
    """Of views, with the content of their zones: equal ones are equal.

    A resolver that has a view needs not be sent it again by the next daemon.
    """

    def __init__(self) -> None:
        self._zones: dict[str, tuple[Zone, str]] = {}  # by id; many views have one zone

    def view(self, view: ResolverView) -> str:
        parts = [view_fields(view), *map(self._zone, view.zones)]
        return _digest(parts)

    def _zone(self, zone: Zone) -> str:
        known = self._zones.get(zone.id)
        if known is None or known[0] is not zone:
            parts = [zone.name, zone.domain, zone.below, *(getattr(zone, m) for m in MAPPINGS)]
            known = self._zones[zone.id] = (zone, _digest(parts))
        return known[1]


def _digest(parts: Any) -> str:
    import hashlib  # with OpenSSL: a resolver of which no second daemon asks does without

    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _changes(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    changed = {k: v for k, v in new.items() if old.get(k) != v}
    return {**changed, **{k: None for k in old if k not in new}}


def _changed(
    old: Mapping[str, Any], messages: Iterable[Message], kind: str
) -> dict[str, Any]:
    found = dict(old)
    for message in messages:
        for key, value in message.get(kind, {}).items():
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
    return found


def _chunks(changes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    part: dict[str, Any] = {}
    size = 0
    for key, value in changes.items():
        more = len(json.dumps([key, value]))
        if part and size + more > CHUNK:
            yield part
            part, size = {}, 0
        part[key] = value
        size += more
    if part:
        yield part
