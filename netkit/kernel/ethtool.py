"""Checksum offload of interfaces, by ethtool's ioctl.  Source: linux/ethtool.h, ethtool(8)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Sequence

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.adapter import Adapter
from netkit.kernel.session import Session
from netkit.model import Key, Resource
from netkit.model.openvswitch import Offload
from netkit.reconcile.plan import Op

SIOCETHTOOL = 0x8946
GTXCSUM, STXCSUM = 0x16, 0x17
ABSENT = frozenset({errno.ENODEV, errno.EOPNOTSUPP})


def observe(session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
    out: dict[Key, Resource] = {}
    for key in sorted(keys):
        _, ns, dev = key
        if not session.exists(ns):
            continue
        try:
            out[key] = Offload(dev=dev, ns=ns, checksums=bool(_ethtool(session, ns, dev, GTXCSUM)))
        except OSError as e:
            if e.errno not in ABSENT:
                raise KernelError(f"cannot ask {dev} for its offloads: {e.strerror}") from e
    return out


def apply(session: Session, ops: Sequence[Op]) -> None:
    """Set in order; deleting one does nothing."""
    for done, op in enumerate(ops):
        if not isinstance(op.after, Offload):
            continue
        r = op.after
        try:
            _ethtool(session, r.ns, r.dev, STXCSUM, int(r.checksums))
        except OSError as e:
            raise KernelError(f"{op} failed: {e.strerror}", errno=e.errno, done=done) from e


def _ethtool(session: Session, ns: str, dev: str, command: int, value: int = 0) -> int:
    words = (ctypes.c_uint32 * 2)(command, value)  # struct ethtool_value
    request = struct.pack("16sP16x", dev.encode(), ctypes.addressof(words))  # struct ifreq
    with netns.open_socket(session.path(ns), socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCETHTOOL, request)
    return int(words[1])


ADAPTER = Adapter(
    types=(Offload,), kinds=frozenset({"offload"}), observe=observe, apply=apply, placed=True
)
