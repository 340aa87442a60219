"""Make TAP devices, which rtnetlink shows and deletes but does not make: ioctls of /dev/net/tun.

A device is there as long as the descriptor is open, and after that only once `keep` was called.
So a kill between its birth and the mark of its owner leaves nothing.
Source: linux/if_tun.h; kernel Documentation/networking/tuntap.rst; drivers/net/tun.c.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from netkit.kernel import netns

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETPERSIST, TUNSETIFINDEX = 0x400454CA, 0x400454CB, 0x400454DA
SIOCGIFINDEX = 0x8933  # linux/sockios.h
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
FLAGS = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR  # each later open has to request the same
IFREQ = struct.Struct("16sH22x")


def make(ns: str, name: str, index: int) -> int:
    """Make one in the namespace at path `ns`; the descriptor, which the caller closes.

    OSError: EBUSY if the name or the index is taken, ENOENT where the kernel has no tun.
    """
    with netns.inside(ns):
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFINDEX, struct.pack("=I", index))
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), FLAGS | IFF_TUN_EXCL))
    except BaseException:
        os.close(fd)
        raise
    return fd


def keep(fd: int) -> None:
    """Let it stay without a process that has it open."""
    fcntl.ioctl(fd, TUNSETPERSIST, 1)


def attach(ns: str, name: str) -> int:
    """Open one that exists in the namespace at path `ns`; the descriptor, which the caller closes.

    Each read and write is a virtio_net_hdr (linux/virtio_net.h, 10 bytes) and a frame.  OSError:
    EBUSY if another process has it open, ENODEV if there is none.
    """
    with netns.inside(ns):
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        with there:  # else one would be made, with a name that then is not free for the right one
            fcntl.ioctl(there, SIOCGIFINDEX, IFREQ.pack(name.encode(), 0))
        fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), FLAGS))
    except BaseException:
        os.close(fd)
        raise
    return fd
