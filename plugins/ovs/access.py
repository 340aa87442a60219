"""Render access rules as flows: packets of neighbours on a bridge meet no rule of the host.

Containers and tunnels ask table 1 (see `flows`), where these come before everything else; what
the host sends does not, for what is routed through it meets the firewall, and its own is not
kept out.  As there, the first that matches decides, for answers as well.

Limit: of a datagram in fragments, only the first has ports; others pass, and are of no use alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from netkit.driver import Access

FIRST = 60_000  # priority; the base flows of table 1 have 10 at most
MOST = 50_000  # rules


def enforced(
    address: IPv4Address, mac: str, access: Iterable[Access], *, translates: bool
) -> Iterator[str]:
    """Yield flows of access rules; where the host `translates`, published ports are its own."""
    ordered = sorted((a for a in access if not a.link), key=lambda a: (a.priority, a.id))
    for n, a in enumerate(ordered):
        if a.published and translates:
            continue
        priority = FIRST - min(n, MOST)
        # What is let in goes to its own MAC address; what is not, to none.
        does = f"dl_dst={mac},actions=NORMAL" if a.verdict == "accept" else "actions=drop"
        for source in a.networks:
            whose = f"nw_src={source}," if source.prefixlen else ""
            for ports in _ports(a):
                yield (
                    f"table=1,priority={priority},{a.proto or 'ip'},{whose}nw_dst={address},"
                    f"{ports}{does}"
                )


def _ports(a: Access) -> Iterator[str]:
    if not a.first:
        yield ""
        return
    for value, mask in masks(a.first, a.last or a.first):
        yield f"tp_dst={value:#x}/{mask:#x},"


def masks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Return the fewest (value, mask) that match these ports and no others."""
    while first <= last:
        size = first & -first or 1 << 16
        while first + size - 1 > last:
            size >>= 1
        yield first, 0xFFFF & ~(size - 1)
        first += size
