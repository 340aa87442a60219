"""Hints that somebody changed links, addresses or routes on this host.

A hint says where to look, not what is true: who gets one converges again, and finds nothing to
do if the change was its own.  Under load the kernel may drop messages, so who relies on hints
also looks from time to time without one.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from netkit.kernel import netns
from netkit.kernel.netlink import BUFFER, SO_RCVBUFFORCE
from netkit.model import HOST, Key

# linux/rtnetlink.h: links, IPv4 addresses, IPv4 routes, IPv6 addresses, IPv6 routes
GROUPS = (1, 5, 7, 9, 11)


@dataclass(frozen=True, slots=True)
class Hint:
    """`event` as in RTM_DELLINK.  `key` is of the link concerned, or None: look everywhere.

    `owner` is its mark if the message tells or an earlier one told.
    """

    event: str
    key: Key | None
    owner: str | None = None


async def watch(home: str = HOST) -> AsyncIterator[Hint]:
    """Hints from the namespace at `home`, for as long as they are taken."""
    from pyroute2 import AsyncIPRoute  # 0.3 s to import: not before somebody watches

    # Its own way into a namespace forks; asyncio wants datagrams.
    source = netns.open_socket(home, socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
    source.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    names: dict[int, tuple[str, str | None]] = {}
    async with AsyncIPRoute(use_socket=source) as route:
        for group in GROUPS:
            route.add_membership(group)
        async for message in await route.link("dump"):
            _learn(message, names)
        while True:
            async with aclosing(route.get()) as messages:
                async for message in messages:
                    yield _hint(message, names)


def _learn(message: Any, names: dict[int, tuple[str, str | None]]) -> None:
    names[message["index"]] = message.get("ifname"), message.get("IFLA_IFALIAS")


def _hint(message: Any, names: dict[int, tuple[str, str | None]]) -> Hint:
    event = str(message["event"])
    index = message.get("oif") if "ROUTE" in event else message.get("index")
    if "LINK" in event:
        _learn(message, names)
    if index not in names:
        return Hint(event, None)
    name, owner = names.pop(index) if event == "RTM_DELLINK" else names[index]
    return Hint(event, ("link", HOST, name), owner)
