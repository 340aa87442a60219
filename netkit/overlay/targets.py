"""Peers as users write them: "h1", "192.0.2.7", "192.0.2.7:6783", "[2001:db8::7]:6783"."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from netkit.errors import InvalidSpec
from netkit.overlay.verbs import Peer

PORT = 6783  # UDP


def parsed(text: str) -> tuple[str, int]:
    """(host, port).  InvalidSpec."""
    host, port = text, str(PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else str(PORT) if not rest else "?"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise InvalidSpec(f"{text!r} is no peer: use HOST or HOST:PORT")
    return host, int(port)


def resolved(text: str) -> tuple[Peer, ...]:
    """Where it is looked for: all addresses of a name, which may take as long as resolv.conf(5)
    says.  InvalidSpec."""
    host, port = parsed(text)
    try:
        return (Peer(host=str(ip_address(host)), port=port, name=text),)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as e:
        raise InvalidSpec(f"there is no host {host!r}: {e.strerror or e}") from None
    except UnicodeError as e:
        raise InvalidSpec(f"there is no host {host!r}: {e}") from None
    hosts = dict.fromkeys(str(address[4][0]) for address in found)
    return tuple(Peer(host=each, port=port, name=text) for each in hosts)
