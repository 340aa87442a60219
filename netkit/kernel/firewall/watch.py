"""Watch for changes of firewall rules by other tools.  Hints where to look, never facts.

nf_tables (native and under iptables-nft) notifies of every change with its author, so that our own
are no hints; the legacy tables do not, so they are read ten times a second.  Since they have no
generation either, a table that we changed and another tool changed back looks as if nothing had
happened: what we committed ourselves is a hint there.
Source: linux/netfilter/nfnetlink.h, NFNLGRP_NFTABLES; nf_tables.h, NFT_MSG_NEWGEN.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import tools
from netkit.kernel.iptables.legacy_fingerprint import fingerprint
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER
from netkit.kernel.netlink.codec import BUFFER, SO_RCVBUFFORCE, attributes
from netkit.kernel.run import ours

NFNLGRP_NFTABLES = 7
NEWGEN = 0xA0F  # nfnetlink's subsystem nf_tables, NFT_MSG_NEWGEN: the end of each transaction
GEN_PROC_PID = 2
PROC_PID_INIT_INO = 0xEFFFFFFC  # linux/proc_ns.h; in other pid namespaces ours are not the kernel's
HEADER = struct.Struct("=IHHII")  # netlink(7)
GENERIC = 4  # bytes of struct nfgenmsg
POLL = 0.1  # seconds between looks at legacy tables; one costs 0.1 ms, and 1 ms a 1,000 rules
SHARE = 20  # and at most a twentieth of one processor


def authors(data: bytes) -> Iterator[int]:
    """Process ids of the authors of the transactions that end here; 0 where it is not stated."""
    at = 0
    while at + HEADER.size <= len(data):
        size, kind, *_ = HEADER.unpack_from(data, at)
        if size < HEADER.size:
            return
        if kind == NEWGEN:
            body = attributes(data[at : at + size], HEADER.size + GENERIC)
            yield int.from_bytes(body.get(GEN_PROC_PID, b""), "big")
        at += (size + 3) & ~3


class RuleWatch:
    """Of the namespace at `home`.  For one thread; `wake` is for others.

    `commits` counts those of ours to legacy tables.
    """

    def __init__(self, home: str, *, legacy: bool, commits: Callable[[], int] = lambda: 0) -> None:
        self._home = home
        self._commits, self._counted = commits, commits()
        self._poll_every = POLL
        self._bell, self._rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._source: socket.socket | None = None
        self._legacy = legacy
        self._knows_us = os.stat("/proc/self/ns/pid").st_ino == PROC_PID_INIT_INO
        self._saved: dict[str, str] = self._read() if legacy else {}
        try:  # beside legacy tables, too: what bridges let pass is always in nf_tables
            kind = socket.SOCK_RAW
            self._source = netns.open_socket(home, socket.AF_NETLINK, kind, NETLINK_NETFILTER)
            self._source.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            self._source.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
            self._source.setblocking(False)
        except OSError:
            if not legacy:
                raise
            if self._source is not None:
                self._source.close()
            self._source = None

    def wait(self, seconds: float) -> bool:
        """Wait for a hint, a call of `wake` or the timeout; True for a hint."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._poll(min(self._poll_every, left) if self._legacy else left):
                return False
            if self._drain():
                return True
            if not self._legacy:
                continue  # what we did ourselves woke us
            with suppress(KernelError):  # it is changing: the next look sees the result
                if self._changed():
                    return True
        return self._drain()

    def _changed(self) -> bool:
        """Whether legacy tables differ from the last hint's, or we changed them."""
        begin, count = time.monotonic(), self._commits()
        now = self._read()
        self._poll_every = max(POLL, SHARE * (time.monotonic() - begin))
        if (now, count) == (self._saved, self._counted):
            return False
        self._saved, self._counted = now, count
        return True

    def _poll(self, seconds: float) -> bool:
        """Wait for an event or the timeout; True if `wake` was called."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if self._source is not None:
            poll.register(self._source, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)
        with suppress(BlockingIOError):
            return bool(os.read(self._bell, 4096))
        return False

    def _drain(self) -> bool:
        if self._source is None:
            return False
        notified = False
        while True:
            try:
                notified |= any(not self._knows_us or not ours(pid)
                            for pid in authors(self._source.recv(1 << 16)))  # fmt: skip
            except BlockingIOError:
                return notified
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more happened than fits
                    raise
                notified = True

    def _read(self) -> dict[str, str]:
        return fingerprint(self._home, tools.legacy_tables(self._home, 4))

    def wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._rope, b"x")

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
        os.close(self._bell)
        os.close(self._rope)
