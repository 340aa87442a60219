"""Addresses of OVSDB servers, as users give them."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address

MOST = 16  # servers


def ovsdb_remotes(text: str) -> str:
    """Check tcp:IP:PORT, ssl:IP:PORT or unix:/PATH, with commas between several servers.

    ValueError says what to use.  Source: ovsdb(7), "Active Database Connection Methods".
    """
    remotes = text.split(",")
    if len(remotes) > MOST or not all(map(_valid, remotes)):
        raise ValueError(
            f"use tcp:IP:PORT, ssl:IP:PORT or unix:/PATH, {MOST} at most, with commas between them"
        )
    return text


def _valid(remote: str) -> bool:
    kind, _, where = remote.partition(":")
    if kind == "unix":
        return where.startswith("/") and where.isprintable() and " " not in where
    host, _, port = where.rpartition(":")
    try:
        # python-ovs resolves names only with libunbound installed.
        known = not IPv4Address(host).is_unspecified
    except AddressValueError:
        return False
    number = port.isascii() and port.isdigit() and 0 < len(port) < 6 and 0 < int(port) < 65536
    return kind in {"tcp", "ssl"} and known and number
