"""Parse and check --metrics-addr.  Pure, and without runtime.api: netkitd --validate imports it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from netkit.errors import InvalidSpec
from runtime.numbers import natural


@dataclass(frozen=True, slots=True)
class MetricsAddress:
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Reachable from this machine only; a name other than localhost is not trusted to be."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(text: str) -> MetricsAddress:
    """HOST:PORT as Go's net.Listen reads it, which dockerd calls: without HOST, all addresses."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    number = natural(port, 65535)
    if not colon or number is None or "/" in host or (":" in host and not bracketed):
        raise InvalidSpec(
            f"--metrics-addr {text}: give HOST:PORT, e.g. 127.0.0.1:9323 or [::1]:9323"
        )
    return MetricsAddress(host.strip("[]") or "0.0.0.0", number)


def check(text: str, *, insecure: bool) -> MetricsAddress | None:
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
