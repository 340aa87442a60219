"""Netlink sockets and cached links of one call into the kernel, by namespace.

Nothing is kept between calls, so that no socket of ours keeps a dead namespace alive and a
Host may be used from several threads.  A socket in another namespace costs 0.02 ms.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Netlink, Tally
from netkit.model import HOST

OPEN_AT_ONCE = 64  # sockets; a restore names hundreds of namespaces, a process may have 1024 files


class Session:
    def __init__(self, home: str, tally: Tally) -> None:
        self._home = home
        self._tally = tally
        self._sockets: dict[str, Netlink] = {}
        self._nftables: Netlink | None = None
        self._links: dict[tuple[str, str | int], rtnl.SeenLink | None] = {}
        self.made: dict[tuple[str, str], int] = {}
        """Indexes of links that were made during this call, by namespace and name."""
        self._all: dict[str, list[rtnl.SeenLink]] = {}  # by namespace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for s in (*self._sockets.values(), self._nftables):
            if s is not None:
                s.close()

    def path(self, ns: str) -> str:
        """The file of a namespace as the model names it: HOST is the home of this kernel."""
        return self._home if ns == HOST else ns

    def exists(self, ns: str) -> bool:
        return ns == HOST or ns in self._sockets or netns.exists(ns)

    def netlink(self, ns: str) -> Netlink:
        if ns not in self._sockets:
            if len(self._sockets) >= OPEN_AT_ONCE:
                oldest = next(k for k in self._sockets if k != HOST)
                self._sockets.pop(oldest).close()
            with netns.inside(self.path(ns)):
                self._sockets[ns] = Netlink(socket.NETLINK_ROUTE, self._tally)
        return self._sockets[ns]

    def separate_netlink(self, ns: str) -> Netlink:
        """One for another thread, which closes it."""
        with netns.inside(self.path(ns)):
            return Netlink(socket.NETLINK_ROUTE, self._tally)

    def nftables(self) -> Netlink:
        """Of the home namespace."""
        if self._nftables is None:
            with netns.inside(self._home):
                self._nftables = Netlink(NETLINK_NETFILTER, self._tally)
        return self._nftables

    @contextmanager
    def files(self, namespaces: Sequence[str]) -> Iterator[dict[str, int]]:
        """Open descriptors of those namespaces that exist."""
        out: dict[str, int] = {}
        try:
            for ns in namespaces:
                try:
                    out[ns] = netns.open_file(self.path(ns))
                except KernelError:
                    continue
            yield out
        finally:
            for fd in out.values():
                os.close(fd)

    def number_of_host(self, ns: str) -> int:
        """Return the nsid of HOST in namespace `ns` (IFLA_LINK_NETNSID); assigned if it has none.

        Once given it stays as long as both are there.  KernelError if there is no such namespace.
        """
        netlink = self.netlink(ns)
        with self.files([HOST]) as files:
            fd = files[HOST]
            for _ in range(2):
                reply = netlink.run([rtnl.get_nsid(fd)])[0]
                reply.check(f"ask {ns} for the number of its host's namespace")
                if reply.messages and (number := rtnl.seen_nsid(reply.messages[0])) >= 0:
                    return number
                netlink.run([rtnl.new_nsid(fd)])
        raise KernelError(f"{ns} has no number for its host's namespace")

    # -- links seen during this call ---------------------------------------

    def look(self, ns: str, which: Iterable[str | int]) -> None:
        """Read links by name or index, all at once; those read before are not read again."""
        new = sorted({w for w in which if (ns, w) not in self._links}, key=str)
        if not new:
            return
        replies = self.netlink(ns).run([rtnl.get_link(w) for w in new])
        for w, reply in zip(new, replies, strict=True):
            seen = rtnl.seen_link(reply.messages[0]) if reply.messages else None
            self._links[ns, w] = seen
            if seen:
                self._links[ns, seen.index] = self._links[ns, seen.name] = seen

    def link(self, ns: str, which: str | int) -> rtnl.SeenLink | None:
        if (ns, which) not in self._links:
            self.look(ns, (which,))
        return self._links[ns, which]

    def all_links(self, ns: str) -> list[rtnl.SeenLink]:
        """Read all links of a namespace, in one request; `link` has them then."""
        if ns not in self._all:
            seen = [*map(rtnl.seen_link, self.netlink(ns).dump(rtnl.all_links()))]
            self._all[ns] = seen
            self._links |= {(ns, each.index): each for each in seen}
            self._links |= {(ns, each.name): each for each in seen}
        return self._all[ns]

    def forget_links(self) -> None:
        """Drop cached links, after a change."""
        self._links.clear()
        self._all.clear()
