"""Filters of packets in pcap-filter(7)'s words, compiled by libpcap for the kernel.

By ctypes, for five functions: bindings on PyPI bring a libpcap of their own, scapy is no dependency
of netkit's.
"""

from __future__ import annotations

import ctypes
from typing import Any

from netkit.errors import InvalidSpec, NotSupported
from netkit.kernel import netns
from netkit.kernel.netlink.codec import Netlink
from netkit.kernel.packet_socket import ETHERNET

NAMES = ("libpcap.so.0.8", "libpcap.so.1")  # Debian's, others'
DLT_EN10MB, DLT_RAW = 1, 12  # of Linux; the LINKTYPE_ of files has another number
ANY_MASK, ERROR_SIZE = 0xFFFFFFFF, 256
INSTRUCTION = 8  # bytes of struct sock_filter
MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
LONGEST = 4096  # characters


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("code", ctypes.c_void_p))


def program(expression: str, link_type: int, snaplen: int) -> bytes:
    """struct sock_filter[] that cuts packets to `snaplen`; needs root.

    In a namespace with a loopback alone, so that a name in the expression sends no question of DNS.
    InvalidSpec has libpcap's reason; NotSupported: there is no libpcap.
    """
    if len(expression) > LONGEST:
        raise InvalidSpec(f"a filter has at most {LONGEST} characters, not {len(expression)}")
    pcap = _library()
    with netns.scratch(), Netlink() as own:
        own.run([netns.UP_LOOPBACK])
        handle = _handle(pcap, link_type, snaplen)
        try:
            return _compiled(pcap, handle, expression)
        finally:
            pcap.pcap_close(handle)


def _handle(pcap: Any, link_type: int, snaplen: int) -> int:
    """For Ethernet a live one, of the loopback there: where Linux keeps VLAN tags beside frames,
    `vlan` is compiled for that, and so are `inbound` and `outbound`.
    """
    if link_type == ETHERNET:
        live: int = pcap.pcap_create(b"lo", ctypes.create_string_buffer(ERROR_SIZE))
        pcap.pcap_set_snaplen(live, snaplen)
        if pcap.pcap_activate(live) >= 0:  # more than 0 is a warning
            return live
        pcap.pcap_close(live)
    kind = DLT_EN10MB if link_type == ETHERNET else DLT_RAW
    dead: int = pcap.pcap_open_dead(kind, snaplen)
    return dead


def _compiled(pcap: Any, handle: int, expression: str) -> bytes:
    made = _Program()
    if pcap.pcap_compile(handle, ctypes.byref(made), expression.encode(), 1, ANY_MASK) != 0:
        reason = pcap.pcap_geterr(handle).decode(errors="replace")
        raise InvalidSpec(f"filter {expression!r}: {reason} (pcap-filter(7))")
    try:
        if made.length > MOST_INSTRUCTIONS:
            raise InvalidSpec(f"filter {expression!r}: it is too long for the kernel")
        return ctypes.string_at(made.code or 0, made.length * INSTRUCTION)
    finally:
        pcap.pcap_freecode(ctypes.byref(made))


def _library() -> Any:
    for name in NAMES:
        try:
            pcap = ctypes.CDLL(name)
        except OSError:
            continue
        for function in (pcap.pcap_create, pcap.pcap_open_dead):
            function.restype = ctypes.c_void_p
        pcap.pcap_create.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        pcap.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        pcap.pcap_set_snaplen.argtypes = [ctypes.c_void_p, ctypes.c_int]
        pcap.pcap_geterr.restype = ctypes.c_char_p
        for function in (pcap.pcap_activate, pcap.pcap_close, pcap.pcap_geterr):
            function.argtypes = [ctypes.c_void_p]
        pcap.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
        pcap.pcap_compile.argtypes = [
            ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int, ctypes.c_uint
        ]  # fmt: skip
        return pcap
    raise NotSupported("a filter needs libpcap: apt-get install libpcap0.8")
