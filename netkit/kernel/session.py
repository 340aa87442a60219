"""Netlink sockets and cached links of one call into the kernel, by namespace.

Nothing is kept between calls, so that no socket of ours keeps a dead namespace alive and a
Host may be used from several threads.  A socket in another namespace costs 0.02 ms.  Kept are
sockets in the process's own namespace, which lives as long (`SpareSockets`): each takes ten system
calls, and to close one for nf_tables after rules were deleted takes 10 ms, an RCU grace period
(net/netfilter/nf_tables_api.c, nft_rcv_nl_event).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Netlink, Tally
from netkit.model import HOST

IDLE = 2  # sockets of a protocol that are kept: threads that call at the same time are few
OPEN_AT_ONCE = 64  # sockets; a restore names hundreds of namespaces, a process may have 1024 files


class SpareSockets:
    """Sockets in the namespace of this process, by protocol, between calls.  Thread-safe."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._idle: dict[int, list[Netlink]] = {}
        self._lock = threading.Lock()

    def take(self, protocol: int) -> Netlink:
        with self._lock:
            if idle := self._idle.get(protocol):
                return idle.pop()
        return Netlink(protocol, self._tally)

    def give(self, protocol: int, one: Netlink) -> None:
        """Keep it for later, unless there are enough, or an answer may come late."""
        with self._lock:
            idle = self._idle.setdefault(protocol, [])
            if one.sound and len(idle) < IDLE:
                idle.append(one)
                return
        one.close()

    def close(self) -> None:
        """Close those that are idle; others may be taken again."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for one in (one for each in idle.values() for one in each):
            one.close()


class Session:
    """With `spare`, sockets of the home namespace, which is the process's own, are from there."""

    def __init__(self, home: str, tally: Tally, spare: SpareSockets | None = None) -> None:
        self._home = home
        self._tally = tally
        self._spare = spare
        self._sockets: dict[str, Netlink] = {}
        self._nftables: Netlink | None = None
        self._links: dict[tuple[str, str | int], rtnl.SeenLink | None] = {}
        self.made: dict[tuple[str, str], int] = {}
        """Indexes of links that were made during this call, by namespace and name."""
        self._all: dict[str, list[rtnl.SeenLink]] = {}  # by namespace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        spare = self._spare if error is None else None
        links = self._sockets.pop(HOST, None)
        own = {socket.NETLINK_ROUTE: links, NETLINK_NETFILTER: self._nftables}
        for protocol, s in own.items():
            if s is not None and spare is not None:
                spare.give(protocol, s)
            elif s is not None:
                s.close()
        for s in self._sockets.values():
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
            self._sockets[ns] = self._open(ns, socket.NETLINK_ROUTE)
        return self._sockets[ns]

    def separate_netlink(self, ns: str) -> Netlink:
        """One for another thread, which closes it."""
        with netns.inside(self.path(ns)):
            return Netlink(socket.NETLINK_ROUTE, self._tally)

    def nftables(self) -> Netlink:
        """Of the home namespace."""
        if self._nftables is None:
            self._nftables = self._open(HOST, NETLINK_NETFILTER)
        return self._nftables

    def _open(self, ns: str, protocol: int) -> Netlink:
        if ns == HOST and self._spare is not None:
            return self._spare.take(protocol)
        with netns.inside(self.path(ns)):
            return Netlink(protocol, self._tally)

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
        replies = self.netlink(ns).get([rtnl.get_link(w) for w in new])
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
