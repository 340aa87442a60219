"""Watch the host's links and their far ends by netlink events (rtnetlink(7)).

    every namespace --(one socket, all nsids)--> links, IPv4 addresses, IPv4 routes   \\
    the host alone ---(a socket of its own)----> neighbours, settings (netconf)       / events

One socket gets events of every namespace with an nsid here (NETLINK_LISTEN_ALL_NSID), which
each far end of a veth has, since the kernel numbers it to describe the near one.  The alternative
is a socket in each container's namespace: 500 sockets, which keep dead namespaces alive.  The
number and index of a far end are in the messages about the near one, so no table of namespaces is
kept.  Neighbour events are of the host only: none of ours is among those of a container, whose
entries the kernel ages and notifies of all the time.

Most messages are about links of others (each container of another engine makes some twenty).  They
are dropped by index, name or the bytes of our mark before anything is decoded: 2 us.  What is left
is decoded by our codec: pyroute2's takes 0.9 ms where that takes 0.14 (one RTM_NEWLINK, measured),
and its import 0.3 s and 17 MiB, for a daemon that starts in 0.4 s.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple, Protocol

from netkit.kernel import netns
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import (
    ATTR,
    HEADER,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
    Netlink,
    attributes,
)
from netkit.kernel.netlink.observe import MARK
from netkit.model import Link
from netkit.model.link_events import (
    AddressDeleted,
    EventsLost,
    ForwardingDisabled,
    ForwardingEntryDeleted,
    LinkChanged,
    LinkEvent,
    NeighbourChanged,
    RouteChanged,
)

ADD_MEMBERSHIP, LISTEN_ALL_NSID = 1, 8  # linux/netlink.h
# linux/rtnetlink.h, RTNLGRP_*; no driver gives out IPv6 addresses or routes yet
LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_NETCONF = 1, 3, 5, 7, 24
NETCONFA_IFINDEX, NETCONFA_FORWARDING, IFINDEX_ALL = 1, 2, 0xFFFFFFFF  # linux/netconf.h
BUFFER = 8 << 20  # bytes; some 3,000 messages about links, in what time the reader rests
CHUNK = 1 << 16


class Interest(Protocol):
    """Names of the links whose events to deliver.  Looked up by the reading thread."""

    def __contains__(self, name: str) -> bool: ...

    def added(self) -> set[str]:
        """Return the names added since the last call."""
        ...


class _Message(NamedTuple):
    kind: int
    body: bytes
    nsid: int | None  # of the namespace it is of; None: the home's

    @property
    def link(self) -> int:
        """The index of the link that a message about a link is about."""
        return int.from_bytes(self.body[4:8], sys.byteorder)


class LinkWatch:
    """Of the namespace at `home`.  For one thread; `wake` is for others.

    `prefix` begins the marks of ours: a link that has one is of interest, whatever its name.
    """

    def __init__(self, home: str, prefix: str, interest: Interest) -> None:
        self._home = home
        self._prefix = prefix.encode()
        self._interest = interest
        self._bell, self._rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._sockets: list[socket.socket] = []
        self._names: dict[int, str] = {}  # by index, of the host's links of interest
        self._far: dict[tuple[int, int], str] = {}  # near ends by number of namespace and index
        self._ends: dict[str, tuple[int, int]] = {}  # the other way round
        self._lost = False

    def open(self) -> bool:
        """Subscribe, unless it is done already; True if it was not."""
        if self._sockets:
            return False
        try:
            self._subscribe((LINK, IPV4_IFADDR, IPV4_ROUTE), everywhere=True)
            self._subscribe((NEIGH, IPV4_NETCONF), everywhere=False)
            self._learn_all()
        except BaseException:
            self.reset()
            raise
        return True

    def reset(self) -> None:
        """Forget the subscriptions, which may be damaged."""
        for s in self._sockets:
            s.close()
        self._sockets.clear()

    def _subscribe(self, groups: tuple[int, ...], *, everywhere: bool) -> None:
        s = netns.open_socket(self._home, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sockets.append(s)
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        s.bind((0, 0))  # before the groups, which it would reset
        if everywhere:
            s.setsockopt(SOL_NETLINK, LISTEN_ALL_NSID, 1)
        for group in groups:
            s.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
        s.setblocking(False)

    def poll(self, seconds: float, *, events: bool = True) -> tuple[bool, bool]:
        """Wait, for `wake` alone if `events` is false; return (woken, there are events)."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        for s in self._sockets if events else ():
            poll.register(s, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(max(0.0, seconds) * 1000)}
        woken = self._bell in ready
        if woken:
            with suppress(BlockingIOError):
                os.read(self._bell, 4096)
        return woken, bool(ready - {self._bell})

    def read(self) -> Iterator[LinkEvent]:
        """All events that are there; of several about a link's settings the last one alone."""
        if added := self._interest.added() - set(self._names.values()):
            self._learn(*sorted(added))
        messages = [message for s in self._sockets for message in self._drain(s)]
        last = {
            (m.nsid, m.body[4:8]): n
            for n, m in enumerate(messages)
            if m.kind == rtnl.NEWLINK and m.body[0] == socket.AF_UNSPEC
        }
        ports: set[int] = set()  # indexes of links about which their bridges sent something
        for n, m in enumerate(messages):
            if m.kind == rtnl.NEWLINK and m.body[0] != socket.AF_UNSPEC:
                # Of a flag that is set on a port there is no other message.
                ports |= {m.link} if m.nsid is None else set()
            elif not (n < last.get((m.nsid, m.body[4:8]), -1) and self._repeated(m)):
                yield from self._events(m.kind, m.body, m.nsid)
        if ports := ports & self._names.keys():
            for seen in self._learn(*sorted(ports)):
                yield LinkChanged(dev=seen.name, link=self._link(seen))
        if self._lost:
            self._learn_all()
            yield EventsLost()

    def _repeated(self, m: _Message) -> bool:
        """Is it of a link that has the name already?  So nothing depends on it but its settings."""
        if m.kind != rtnl.NEWLINK:
            return False
        if m.nsid is not None:
            return (m.nsid, m.link) in self._far
        return self._names.get(m.link) == _name(m.body)

    def _drain(self, s: socket.socket) -> Iterator[_Message]:
        while True:
            try:
                data, ancillary, _, _ = s.recvmsg(CHUNK, 64)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
                continue
            nsid = None
            for level, kind, value in ancillary:
                if (level, kind) == (SOL_NETLINK, LISTEN_ALL_NSID):
                    (nsid,) = struct.unpack_from("=i", value)
            at = 0
            while at + HEADER.size <= len(data):
                size, kind, *_ = HEADER.unpack_from(data, at)
                if size < HEADER.size:
                    break
                yield _Message(kind, data[at + HEADER.size : at + size], nsid)
                at += (size + 3) & ~3

    def _events(self, kind: int, body: bytes, nsid: int | None) -> Iterator[LinkEvent]:
        match kind:
            case rtnl.NEWLINK | rtnl.DELLINK:
                yield from self._of_link(kind, body, nsid)
            case rtnl.DELADDR:
                if at := self._place(nsid, rtnl.IFADDR.unpack_from(body)[4]):
                    address = rtnl.seen_addr(body).address
                    yield AddressDeleted(dev=at[0], far=at[1], address=address)
            case rtnl.NEWROUTE | rtnl.DELROUTE if body[4] == rtnl.RT_TABLE_MAIN:
                r = rtnl.seen_route(body)
                if at := self._place(nsid, r.oif):
                    gone = kind == rtnl.DELROUTE
                    yield RouteChanged(dev=at[0], far=at[1], dst=r.dst, deleted=gone)
            case rtnl.NEWNEIGH | rtnl.DELNEIGH:
                yield from self._of_neighbour(kind, body)
            case rtnl.NEWNETCONF:
                a = attributes(body, 4)
                index = int.from_bytes(a.get(NETCONFA_IFINDEX, b""), sys.byteorder)
                if index == IFINDEX_ALL and a.get(NETCONFA_FORWARDING) == bytes(4):
                    yield ForwardingDisabled()

    def _place(self, nsid: int | None, index: int) -> tuple[str, bool] | None:
        """The link of interest that has the index, and whether it is its far end."""
        name = self._names.get(index) if nsid is None else self._far.get((nsid, index))
        return (name, nsid is not None) if name else None

    def _of_link(self, kind: int, body: bytes, nsid: int | None) -> Iterator[LinkEvent]:
        index = int.from_bytes(body[4:8], sys.byteorder)
        if body[0] != socket.AF_UNSPEC:
            return  # of a bridge: the port was taken from it, of which there is another message
        if nsid is not None:
            if near := self._far.get((nsid, index)):
                link = self._link(rtnl.seen_link(body)) if kind == rtnl.NEWLINK else None
                yield LinkChanged(dev=near, far=True, link=link)
            return
        name, before = _name(body), self._names.get(index)
        if before is None and name not in self._interest and self._prefix not in body:
            return
        if before not in {None, name} or kind == rtnl.DELLINK:
            self._forget(index)
            yield LinkChanged(dev=before or name)
        if kind == rtnl.NEWLINK:
            yield LinkChanged(dev=name, link=self._link(self._keep(rtnl.seen_link(body))))

    def _of_neighbour(self, kind: int, body: bytes) -> Iterator[LinkEvent]:
        family, index, state, _, _ = rtnl.NEIGH.unpack_from(body)
        dev = self._names.get(index)
        if dev is None:
            return
        a = attributes(body, rtnl.NEIGH.size)
        mac, dst = a.get(rtnl.NDA_LLADDR, b"").hex(":"), a.get(rtnl.NDA_DST, b"")
        if family == socket.AF_BRIDGE:
            if kind == rtnl.DELNEIGH:
                yield ForwardingEntryDeleted(dev=dev, mac=mac)
        elif len(dst) == 4:
            kept = kind == rtnl.NEWNEIGH and state & rtnl.NUD_PERMANENT
            yield NeighbourChanged(dev=dev, address=IPv4Address(dst), mac=mac if kept else "")

    # -- which link has which index ----------------------------------------

    def _learn_all(self) -> None:
        self._lost = False
        self._names.clear()
        self._far.clear()
        self._ends.clear()
        with netns.inside(self._home), Netlink() as netlink:
            for body in netlink.dump(rtnl.all_links()):
                if self._prefix in body or _name(body) in self._interest:
                    self._keep(rtnl.seen_link(body))

    def _learn(self, *which: str | int) -> list[rtnl.SeenLink]:
        """Ask for links by name or index, all at once; those that exist."""
        with netns.inside(self._home), Netlink() as netlink:
            replies = netlink.run([rtnl.get_link(each) for each in which])
        return [self._keep(rtnl.seen_link(body)) for r in replies for body in r.messages]

    def _keep(self, seen: rtnl.SeenLink) -> rtnl.SeenLink:
        self._names[seen.index] = seen.name
        if seen.nsid is not None and seen.link:
            self._far.pop(self._ends.get(seen.name, (0, 0)), None)
            self._ends[seen.name] = (seen.nsid, seen.link)
            self._far[seen.nsid, seen.link] = seen.name
        return seen

    def _forget(self, index: int) -> None:
        name = self._names.pop(index, "")
        self._far.pop(self._ends.pop(name, (0, 0)), None)

    def _link(self, s: rtnl.SeenLink) -> Link:
        return Link(
            name=s.name,
            kind=s.kind,
            master=self._names.get(s.master, f"of index {s.master}") if s.master else None,
            mtu=s.mtu,
            gso_max_size=s.gso,
            mac=s.mac,
            up=s.up,
            owner=s.alias if s.alias.startswith(MARK) else None,
            **s.port,
            **s.bridge,
        )

    def wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._rope, b"x")

    def close(self) -> None:
        self.reset()
        os.close(self._bell)
        os.close(self._rope)


def _name(body: bytes) -> str:
    """Of a message about a link; its first attribute, as the kernel packs it."""
    size, kind = ATTR.unpack_from(body, 16)
    if kind != rtnl.IFLA_IFNAME:
        return attributes(body, 16).get(rtnl.IFLA_IFNAME, b"\0")[:-1].decode(errors="replace")
    return body[20 : 15 + size].decode(errors="replace")
