"""Fingerprints of the legacy iptables tables, by one system call each instead of a process.

    ipt_getinfo      | name 32 | hooks 4 | entry points 20 | underflows 20 | entries 4 | size 4
    ipt_get_entries  | name 32 | size 4, padded to 8 | entry entry ...
    ipt_entry        | ipt_ip 84 | nfcache 4 | target offset 2 | next offset 2 | from 4 |
                       counters 16, which change with every packet | matches, target ...

Asking for a table that is not there makes it: only those in /proc/net/ip_tables_names are asked
for.  Source: linux/netfilter_ipv4/ip_tables.h.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import socket
import struct
from collections.abc import Iterable

from netkit.errors import KernelError
from netkit.kernel import netns

SO_GET_INFO, SO_GET_ENTRIES = 64, 65
INFO = struct.Struct("=32s13I")
HEAD = struct.Struct("=32sI4x")
NEXT_OFFSET, COUNTERS = 90, slice(96, 112)
TRIES = 5  # a table may grow between the two calls

_libc = ctypes.CDLL(None, use_errno=True)


def fingerprint(home: str, tables: Iterable[str]) -> dict[str, str]:
    """A digest by table, of all its rules without their counters."""
    with netns.open_socket(home, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        return {table: _digest(_entries(sock, table)) for table in sorted(tables)}


def _entries(sock: socket.socket, table: str) -> bytearray:
    name = table.encode()
    for _ in range(TRIES):
        info = _ask(sock, SO_GET_INFO, bytearray(INFO.pack(name, *[0] * 13)))
        size = INFO.unpack(info)[-1]
        try:
            return _ask(sock, SO_GET_ENTRIES, bytearray(HEAD.pack(name, size)) + bytes(size))
        except KernelError as e:
            if e.errno != errno.EAGAIN:
                raise
    raise KernelError(f"the legacy table {table} changes too fast to be read", errno=errno.EAGAIN)


def _ask(sock: socket.socket, option: int, buffer: bytearray) -> bytearray:
    raw = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    length = ctypes.c_uint(len(buffer))
    if _libc.getsockopt(sock.fileno(), socket.SOL_IP, option, raw, ctypes.byref(length)) != 0:
        number = ctypes.get_errno()
        raise KernelError(f"cannot read a legacy table: {os.strerror(number)}", errno=number)
    del raw  # so that the buffer may be changed
    return buffer


def _digest(table: bytearray) -> str:
    found = hashlib.sha256()
    at = HEAD.size
    view = memoryview(table)
    while at < len(table):
        length = int.from_bytes(view[at + NEXT_OFFSET : at + NEXT_OFFSET + 2], "little")
        if length < COUNTERS.stop:
            break
        found.update(view[at : at + COUNTERS.start])
        found.update(view[at + COUNTERS.stop : at + length])
        at += length
    return found.hexdigest()
