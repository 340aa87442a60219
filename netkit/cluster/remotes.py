"""Where servers of a cluster are, and which address of this host leads there."""

from __future__ import annotations

import socket
from ipaddress import AddressValueError, IPv4Address

from netkit.errors import InvalidSpec, KernelError

PREFIX = "ovsdb:"
SOMEWHERE = "192.0.2.1"  # RFC 5737: of nobody; nothing is sent there
_PORT = 9  # any will do: only the route is looked at


def parse(text: str) -> str:
    """`ovsdb:tcp:H1:6640,tcp:H2:6640` without its beginning.  InvalidSpec says what is wrong."""
    remotes = text.removeprefix(PREFIX)
    for remote in remotes.split(","):
        kind, _, rest = remote.partition(":")
        host, _, port = rest.rpartition(":")
        if not text.startswith(PREFIX) or kind != "tcp" or not host or not port.isdigit():
            raise InvalidSpec(
                f"--cluster {text}: use {PREFIX}tcp:HOST:PORT, and a comma between servers"
            )
    return remotes


def own_address(address: str, remotes: str = "") -> str:
    """`address`, or else that from which this host would send to the first of the servers.

    InvalidSpec if it is none that others can send to, KernelError if there is none.
    """
    if address:
        try:
            given = IPv4Address(address)
        except AddressValueError:
            raise InvalidSpec(f"invalid address {address!r}: use an IPv4 address") from None
        if given.is_unspecified or given.is_multicast:
            raise InvalidSpec(f"invalid address {address}: it is not that of one host")
        return str(given)
    target = remotes.partition(",")[0].split(":")[1] if remotes else SOMEWHERE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((target, _PORT))
        except OSError as error:
            raise KernelError(
                f"no address of this host leads to {target} ({error.strerror or error}): say which "
                "one the others know it by (--address, netkitd --cluster-advertise)"
            ) from None
        return str(sock.getsockname()[0])
