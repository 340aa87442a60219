"""TAP devices with a header of virtio before each frame.

Source: Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import fcntl
import os
import struct

TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETLE = 0x400454CA, 0x400454D0, 0x400454DC
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN = 0x01, 0x02, 0x04, 0x08
OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
DEVICE = "/dev/net/tun"


def attach(name: str) -> int:
    """Open the device `name` of this thread's namespace, which must exist; the file.

    OSError: EBUSY if another process has it.
    """
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(fd, TUNSETIFF, request)
        fcntl.ioctl(fd, TUNSETVNETLE, struct.pack("i", 1))
        fcntl.ioctl(fd, TUNSETOFFLOAD, OFFLOADS)
    except BaseException:
        os.close(fd)
        raise
    return fd
