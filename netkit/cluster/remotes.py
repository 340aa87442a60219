"""Parse addresses of a cluster's servers, and find this host's own address."""

from __future__ import annotations

import socket
from ipaddress import AddressValueError, IPv4Address

from netkit.cluster.tls import FLAGS
from netkit.errors import InvalidSpec, KernelError

PREFIX = "ovsdb:"
SOMEWHERE = "192.0.2.1"  # RFC 5737, documentation only; nothing is sent there
_PORT = 9  # any will do: only the route is looked at


def parse(text: str, *, tls: bool = False) -> str:
    """Parse `ovsdb:tcp:H1:6640,tcp:H2:6640`: the remotes.  Raises InvalidSpec.

    With `tls` all must be ssl:, without all tcp:.
    """
    remotes = text.removeprefix(PREFIX)
    for remote in remotes.split(","):
        kind, _, rest = remote.partition(":")
        host, _, port = rest.rpartition(":")
        known = text.startswith(PREFIX) and kind in {"tcp", "ssl"}
        if not known or not _is_address(host) or not port.isdigit():
            raise InvalidSpec(
                f"--cluster {text}: use {PREFIX}tcp:IP:PORT or {PREFIX}ssl:IP:PORT, and a comma "
                "between servers"
            )
        if kind != (wanted := "ssl" if tls else "tcp"):
            given = "are given" if tls else "are missing"
            raise InvalidSpec(
                f"--cluster {text}: {remote} must be {wanted}:{rest}, because {', '.join(FLAGS)} "
                f"{given}: a cluster is all TLS, or not at all"
            )
    return remotes


def _is_address(host: str) -> bool:
    """Whether it is an address: python-ovs resolves names only with libunbound installed."""
    try:
        return bool(IPv4Address(host))
    except AddressValueError:
        return False


def own_address(address: str, remotes: str = "") -> str:
    """Return `address`, or else the source address towards the first of the servers.

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
                f"no address of this host leads to {target} ({error.strerror or error}): give the "
                "one that other hosts reach (--address, netkitd --cluster-advertise)"
            ) from None
        return str(sock.getsockname()[0])
