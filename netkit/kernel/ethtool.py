"""What interfaces leave to hardware, by ethtool's ioctl.

    string set     command 4 | set 4 | number 4 | strings of 32 bytes
    its size       command 4 | reserved 4 | mask of sets 8 | number 4
    features       command 4 | blocks 4 | of each available 4, requested 4, active 4, unchangeable 4
    to set them    command 4 | blocks 4 | of each valid 4, requested 4

Each feature is a bit, in the order of the string set's names.  Source: linux/ethtool.h, ethtool(8).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.adapter import Adapter
from netkit.kernel.session import Session
from netkit.model import Key, Resource
from netkit.model.openvswitch import Offload
from netkit.reconcile.plan import Op

SIOCETHTOOL = 0x8946
GTXCSUM, STXCSUM = 0x16, 0x17
GSTRINGS, GSSET_INFO, GFEATURES, SFEATURES = 0x1B, 0x37, 0x3A, 0x3B
SS_FEATURES = 4
NAME = 32  # bytes of a name, ETH_GSTRING_LEN
ABSENT = frozenset({errno.ENODEV, errno.EOPNOTSUPP})

_SIZE = struct.Struct("@IIQI")
_STRINGS = struct.Struct("@III")
_HEAD = struct.Struct("@II")
_FEATURES = struct.Struct("@IIII")
_VALUES = struct.Struct("@II")


class Device:
    """One interface, for some calls.  OSError if it is not there, or cannot do that."""

    def __init__(self, handle: socket.socket, name: str) -> None:
        self._handle, self._name = handle, name.encode()

    def call(self, request: bytes) -> bytes:
        """What the kernel writes in place of the request."""
        raw = ctypes.create_string_buffer(request, len(request))
        ifreq = struct.pack("16sP16x", self._name, ctypes.addressof(raw))
        fcntl.ioctl(self._handle, SIOCETHTOOL, ifreq)
        return raw.raw

    @property
    def checksums(self) -> bool:
        return bool(_HEAD.unpack(self.call(_HEAD.pack(GTXCSUM, 0)))[1])

    @checksums.setter
    def checksums(self, on: bool) -> None:
        self.call(_HEAD.pack(STXCSUM, int(on)))

    def features(self) -> dict[str, bool]:
        """Whether each feature is on, of those that can be changed."""
        names = self._names()
        blocks = (len(names) + 31) // 32
        reply = self.call(_HEAD.pack(GFEATURES, blocks) + bytes(_FEATURES.size * blocks))
        found = list(_FEATURES.iter_unpack(reply[_HEAD.size :]))
        return {
            name: bool(found[n // 32][2] >> n % 32 & 1)
            for n, name in enumerate(names)
            if found[n // 32][0] >> n % 32 & 1
        }

    def change(self, features: Mapping[str, bool]) -> None:
        """Ask for these.  What they presuppose, or exclude, the kernel settles."""
        names = self._names()
        blocks = [[0, 0] for _ in range((len(names) + 31) // 32)]
        for n, name in enumerate(names):
            if name in features:
                blocks[n // 32][0] |= 1 << n % 32
                blocks[n // 32][1] |= int(features[name]) << n % 32
        raw = b"".join(_VALUES.pack(*block) for block in blocks)
        self.call(_HEAD.pack(SFEATURES, len(blocks)) + raw)

    def _names(self) -> list[str]:
        size = self.call(_SIZE.pack(GSSET_INFO, 0, 1 << SS_FEATURES, 0))
        count = _SIZE.unpack(size)[3]
        raw = self.call(_STRINGS.pack(GSTRINGS, SS_FEATURES, count) + bytes(NAME * count))
        texts = (raw[at : at + NAME] for at in range(_STRINGS.size, len(raw), NAME))
        return [text.partition(b"\0")[0].decode() for text in texts]


@contextmanager
def opened(session: Session, ns: str, dev: str) -> Iterator[Device]:
    """An interface in a namespace, whether it is there or not."""
    with netns.open_socket(session.path(ns), socket.AF_INET, socket.SOCK_DGRAM) as handle:
        yield Device(handle, dev)


def observe(session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
    out: dict[Key, Resource] = {}
    for key in sorted(keys):
        _, ns, dev = key
        if not session.exists(ns):
            continue
        try:
            with opened(session, ns, dev) as device:
                out[key] = Offload(dev=dev, ns=ns, checksums=device.checksums)
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
            with opened(session, r.ns, r.dev) as device:
                device.checksums = r.checksums
        except OSError as e:
            raise KernelError(f"{op} failed: {e.strerror}", errno=e.errno, done=done) from e


ADAPTER = Adapter(
    types=(Offload,), kinds=frozenset({"offload"}), observe=observe, apply=apply, placed=True
)
