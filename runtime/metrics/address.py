"""Parse and check --metrics-addr.  Pure, and without runtime.api: netkitd --validate imports it."""

from __future__ import annotations

from netkit.errors import InvalidSpec
from runtime.numbers import natural
from runtime.tcp_address import TcpAddress


def parse(text: str) -> TcpAddress:
    """HOST:PORT as Go's net.Listen reads it, which dockerd calls: without HOST, all addresses."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    number = natural(port, 65535)
    if not colon or number is None or "/" in host or (":" in host and not bracketed):
        raise InvalidSpec(
            f"--metrics-addr {text}: give HOST:PORT, e.g. 127.0.0.1:9323 or [::1]:9323"
        )
    return TcpAddress(host=host.strip("[]") or "0.0.0.0", port=number)


def check(text: str, *, insecure: bool) -> TcpAddress | None:
    """None for "": no listener.  InvalidSpec off loopback, unless that is `insecure` on purpose."""
    if not text:
        return None
    address = parse(text)
    if not address.loopback and not insecure:
        raise InvalidSpec(
            f"--metrics-addr {text}: refusing to serve metrics on other addresses than loopback: "
            "any client that can connect reads names and traffic of all containers; use 127.0.0.1 "
            "and a proxy that asks for passwords, or insist with --insecure-metrics"
        )
    return address
