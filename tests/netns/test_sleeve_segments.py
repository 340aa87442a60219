"""Frames that the sleeve cuts, beside those that the kernel makes of the same frame.

A frame with several segments is written to one TAP device; the bridge has it go out of another,
whose reader takes none of several segments: so the kernel cuts it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from netkit.kernel import netns
from netkit.overlay.sleeve import tap, vnet
from netkit.overlay.sleeve.segmentation import CWR, FIN, PSH, split
from tests.netns.sleeve_hosts import ip
from tests.unit.netkit.overlay.sleeve.sleeve_frames import HERE, V6, ones_sum, tcp, udp

pytestmark = pytest.mark.root
DATA = bytes(n % 251 for n in range(9_000))
STAMPS = b"\x01\x01\x08\x0a" + bytes(range(8))


@dataclass
class Bridge:
    into: int
    out: int

    def cut(self, frame: bytes) -> list[bytes]:
        """By the kernel."""
        os.write(self.into, frame)
        ready = select.poll()
        ready.register(self.out, select.POLLIN)
        found = []
        while ready.poll(50):
            made = os.read(self.out, 1 << 17)
            if made[vnet.SOURCE] == HERE:
                found.append(made)
        return found


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    name = f"nk-sg-{secrets.token_hex(2)}"
    netns.create(f"/run/netns/{name}")
    files: list[int] = []
    try:
        ip("-n", name, "link", "add", "wire", "type", "bridge", "mcast_snooping", "0")
        for each in ("one", "two"):
            ip("-n", name, "tuntap", "add", each, "mode", "tap", "vnet_hdr")
            with netns.inside(f"/run/netns/{name}"):
                files.append(tap.attach(each))
            ip("-n", name, "link", "set", "dev", each, "mtu", "1500", "master", "wire", "up")
        ip("-n", name, "link", "set", "dev", "wire", "up")
        fcntl.ioctl(files[1], tap.TUNSETOFFLOAD, tap.TUN_F_CSUM)
        yield Bridge(*files)
    finally:
        for fd in files:
            os.close(fd)
        netns.remove(f"/run/netns/{name}")


def finished(frame: bytes) -> bytes:
    """With its checksum, and no virtio header: as a NIC sends it."""
    head = vnet.read(frame)
    if not head.flags & vnet.NEEDS_CSUM:
        return frame[vnet.SIZE :]
    at = vnet.SIZE + head.csum_start
    padded = frame[at:] + bytes(len(frame[at:]) % 2)
    made = bytearray(frame)
    struct.pack_into("!H", made, at + head.csum_offset, (ones_sum(padded) ^ 0xFFFF) or 0xFFFF)
    return bytes(made[vnet.SIZE :])


FRAMES = {
    "IPv4": tcp(DATA, 1400),
    "IPv6": tcp(DATA, 1300, V6),
    "options": tcp(DATA, 1388, options=STAMPS),
    "IPv6 and options": tcp(DATA, 1388, V6, options=STAMPS),
    "FIN and PSH": tcp(DATA, 1400, flags=0x10 | FIN | PSH),
    "CWR": tcp(DATA, 1400, flags=0x10 | CWR, ecn=True),
    "IPv6 and CWR": tcp(DATA, 1400, V6, flags=0x10 | CWR | PSH, ecn=True),
    "the last is whole": tcp(DATA[: 1400 * 4], 1400),
    "the last is a byte": tcp(DATA[: 1400 * 4 + 1], 1400),
    "two": tcp(DATA[:1401], 1400),
    "UDP": udp(DATA, 1200),
    "UDP and IPv6": udp(DATA, 1200, V6),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_segments_are_those_of_the_kernel(bridge: Bridge, kind: str) -> None:
    frame = FRAMES[kind]
    theirs = [finished(part) for part in bridge.cut(frame)]
    assert len(theirs) > 1
    assert [finished(part) for part in split(memoryview(frame), 1)] == theirs


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("segments", [2, 3])
def test_shorter_frames_have_the_same_segments(bridge: Bridge, kind: str, segments: int) -> None:
    """The kernel cuts what was cut before."""
    frame = FRAMES[kind]
    whole = bridge.cut(frame)
    parts = [one for part in split(memoryview(frame), segments) for one in bridge.cut(part)]
    assert list(map(finished, parts)) == list(map(finished, whole))
