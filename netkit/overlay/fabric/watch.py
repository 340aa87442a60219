"""Notice that another tool changed an entry of the overlay's, by the kernel's events.

An event is a hint: what a process does itself is known by its result, which is as wanted.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from netkit.kernel import netns
from netkit.kernel.firewall.watch import NFNLGRP_NFTABLES, authors
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER
from netkit.kernel.netlink import rtnl, tunnels
from netkit.kernel.netlink.codec import HEADER, IFF_UP, IFINFO, SO_RCVBUFFORCE, attributes
from netkit.kernel.netlink.watch import LINK, NEIGH
from netkit.kernel.run import ours
from netkit.overlay.fabric.rows import Rows
from netkit.overlay.fabric.table import Table

BUFFER = 8 << 20  # bytes: events of some 20,000 entries, while the reader is busy
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What should be there, and the indexes of the table's links."""

    rows: Rows = field(default_factory=Rows)
    index: Mapping[str, int] = field(default_factory=dict)
    table: Table = field(default_factory=Table)
    fastdp: bool = True  # VXLAN devices are up; else they are down
    # Ports that were not in their bridge when they were looked at: nothing could be written of them
    apart: frozenset[str] = frozenset()


class Watch:
    """Of the namespace at path `home`.  For one thread; `wake` is for others."""

    def __init__(self, home: str) -> None:
        self._bell, self._rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._route = netns.open_socket(home, socket.AF_NETLINK, socket.SOCK_RAW, 0)
        _listen(self._route, (1 << (LINK - 1)) | (1 << (NEIGH - 1)))
        self._filter: socket.socket | None = None
        with suppress(OSError):  # the kernel has no nf_tables
            self._filter = netns.open_socket(
                home, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER
            )
            _listen(self._filter, 1 << (NFNLGRP_NFTABLES - 1))
        self.follow(Watched())

    @property
    def files(self) -> tuple[int, ...]:
        return tuple(s.fileno() for s in self._sockets())

    def follow(self, watched: Watched) -> None:
        self._rows, self._index = watched.rows, watched.index
        self._fastdp, self._apart = watched.fastdp, watched.apart
        self._names = {i: name for name, i in watched.index.items()}
        self._bridge: dict[str, str] = {}  # of each port that is ours
        self._tunnels: set[str] = set()
        for net in watched.table.networks:
            self._bridge[net.tap] = net.bridge
            if net.vxlan:
                self._bridge[net.vxlan] = net.bridge
                self._tunnels.add(net.vxlan)

    def wait(self, seconds: float) -> bool:
        """True for a change that is not as wanted; False after `wake`, or when time is over."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        for fd in (self._bell, *(s.fileno() for s in self._sockets())):
            poll.register(fd, select.POLLIN)
        while True:
            if self._drain_route() | self._drain_filter():
                return True
            with suppress(BlockingIOError):
                if os.read(self._bell, 4096):
                    return False
            if (left := deadline - time.monotonic()) <= 0:
                return False
            poll.poll(left * 1000)

    def discard(self) -> None:
        """Forget the events that are there."""
        for s in self._sockets():
            while _received(s) is not None:
                pass

    def wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._rope, b"x")

    def close(self) -> None:
        for s in self._sockets():
            s.close()
        os.close(self._bell)
        os.close(self._rope)

    def _sockets(self) -> list[socket.socket]:
        return [self._route, self._filter] if self._filter else [self._route]

    def _drain_filter(self) -> bool:
        """Whether another process changed rules: of which table is not looked at."""
        hint, own = False, os.getpid()
        while self._filter and (data := _received(self._filter)) is not None:
            hint |= not data or any(pid != own and not ours(pid) for pid in authors(data))
        return hint

    def _drain_route(self) -> bool:
        hint = False
        while (data := _received(self._route)) is not None:
            hint |= not data
            at = 0
            while at + HEADER.size <= len(data):
                size, kind, *_ = HEADER.unpack_from(data, at)
                if size < HEADER.size:
                    break
                hint = hint or self._differs(kind, data[at + HEADER.size : at + size])
                at += (size + 3) & ~3
        return hint

    def _differs(self, kind: int, body: bytes) -> bool:
        if kind in {rtnl.NEWLINK, rtnl.DELLINK}:
            return self._link_differs(kind, body)
        if kind not in {rtnl.NEWNEIGH, rtnl.DELNEIGH}:
            return False
        family, index, state, _, _ = rtnl.NEIGH.unpack_from(body)
        a = attributes(body, rtnl.NEIGH.size)
        mac, dst = a.get(rtnl.NDA_LLADDR, b"").hex(":"), a.get(rtnl.NDA_DST, b"")
        there, name = kind == rtnl.NEWNEIGH, self._names.get(index, "")
        if family == socket.AF_BRIDGE and tunnels.NDA_MASTER in a:
            master = self._names.get(int.from_bytes(a[tunnels.NDA_MASTER], sys.byteorder), "")
            return self._place_differs(master, name, mac, there=there, state=state)
        if family == socket.AF_BRIDGE:
            if name not in self._tunnels or len(dst) != 4:
                return False
            return there != ((name, mac, int.from_bytes(dst, "big")) in self._rows.tunnels)
        if family != socket.AF_INET or len(dst) != 4 or not name:
            return False
        wanted = self._rows.neighbours.get((name, int.from_bytes(dst, "big")))
        if wanted is None:  # of the host's own asking, unless it bears our mark
            return there and tunnels.is_ours(body)
        return not there or mac != wanted or not state & rtnl.NUD_PERMANENT

    def _place_differs(self, bridge: str, port: str, mac: str, *, there: bool, state: int) -> bool:
        wanted = self._rows.places.get((bridge, mac))
        if self._bridge.get(port) != bridge:  # a port that is not ours
            return there and wanted is not None
        if state & rtnl.NUD_PERMANENT:  # its own address
            return False
        return there != (wanted == port)

    def _link_differs(self, kind: int, body: bytes) -> bool:
        if body[0] != socket.AF_UNSPEC:
            return False
        _, _, index, flags, _ = IFINFO.unpack_from(body)
        a = attributes(body, 16)
        name = a.get(rtnl.IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        known = self._names.get(index)
        if kind == rtnl.DELLINK or known not in {None, name}:
            return known is not None
        if known is None:
            return name in self._bridge or name in self._bridge.values()
        master = int.from_bytes(a.get(rtnl.IFLA_MASTER, b""), sys.byteorder)
        if name in self._apart and self._names.get(master) == self._bridge.get(name):
            return True
        return name in self._tunnels and bool(flags & IFF_UP) != self._fastdp


def _listen(s: socket.socket, groups: int) -> None:
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    s.bind((0, groups))
    s.setblocking(False)


def _received(s: socket.socket) -> bytes | None:
    """What is there; None: nothing; b"": some was lost."""
    try:
        return s.recv(CHUNK)
    except BlockingIOError:
        return None
    except OSError as e:
        if e.errno != errno.ENOBUFS:
            raise
        return b""
