"""Carry frames between two tap devices: the I/O of the relay, one thread.

Frames are read in batches of those that are there, and each is written when it is due.  Frames of
TCP segmentation offload, up to 64 KiB, go through whole where all that happens to them is a delay;
else the kernel cuts them before, and completes checksums, so that each packet has its own fate and
a flipped bit is not covered by a checksum made afterwards.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

from netkit.kernel.netlink import tap
from netkit.kernel.relay.way import Way
from netkit.model.impairment import Impairment, TwoWay, both_ways

TUNSETOFFLOAD = 0x400454D0  # linux/if_tun.h
TSO = 0x01 | 0x02 | 0x04 | 0x08  # TUN_F_CSUM, _TSO4, _TSO6, _TSO_ECN
VNET = 10  # bytes of a virtio_net_hdr before each frame
FRAME = VNET + (1 << 16) + 18
BATCH = 64  # frames of one way before the other has its turn
CONTROL_SECONDS = 0.05  # for one request: the control socket's folder is root's
REQUEST = 1 << 10
WAYS = ("out", "in")


class Worker:
    """`out` frames come from the tap `near`, at the machine whose link this is."""

    def __init__(self, config: Path, listener: socket.socket, near: int, far: int) -> None:
        self._config, self._listener = config, listener
        self._taps = {"out": (near, far), "in": (far, near)}
        for fd in (near, far):
            os.set_blocking(fd, False)
        self._ways: dict[str, Way] = {}
        self.since = time.monotonic()

    def reload(self) -> None:
        """Read what is wanted.  What is under way stays so, unless the seed is another."""
        found = both_ways(json.loads(self._config.read_text()))
        for name, what in zip(WAYS, (found.out, found.into), strict=True):
            if name not in self._ways or found.seed is not None:
                seed = None if found.seed is None else f"{found.seed}/{name}"
                self._ways[name] = Way(Random(seed), VNET)
            self._ways[name].impair(what)
            self._ways[name].reset_counts()
        self.since = time.monotonic()
        offloads = TSO if whole(found) else 0
        for fd, _ in self._taps.values():
            fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)

    def run(self) -> None:
        """Until killed."""
        ways = [(*self._taps[name], self._ways[name]) for name in WAYS]
        reading = [*(source for source, _, _ in ways), self._listener.fileno()]
        while True:
            dues = [due for _, _, way in ways if (due := way.next_due()) is not None]
            # Not poll(2) or epoll: their time is in whole milliseconds.
            wait = max(min(dues) - time.monotonic(), 0.0) if dues else None
            ready, _, _ = select.select(reading, (), (), wait)
            for source, sink, way in ways:
                if source in ready:
                    _take(source, sink, way)
                for frame in way.arriving(time.monotonic()):
                    _send(sink, frame, way)
            if reading[-1] in ready:
                self._serve()
                ways = [(*self._taps[name], self._ways[name]) for name in WAYS]

    def _serve(self) -> None:
        with suppress(OSError, ValueError):
            peer, _ = self._listener.accept()
            with peer:
                peer.settimeout(CONTROL_SECONDS)
                if peer.recv(REQUEST) == b"reload":
                    self.reload()
                found: dict[str, object] = {n: way.report() for n, way in self._ways.items()}
                found |= {"pid": os.getpid(), "seconds": time.monotonic() - self.since}
                peer.sendall(json.dumps(found).encode())


def _take(source: int, sink: int, way: Way) -> None:
    for _ in range(BATCH):
        try:
            frame = os.read(source, FRAME)
        except BlockingIOError:
            return
        if way.passes:
            way.counts["frames"] += 1
            way.counts["bytes"] += len(frame) - VNET
            _send(sink, frame, way)
        else:
            way.accept(frame, time.monotonic())


def _send(sink: int, frame: bytes, way: Way) -> None:
    try:
        os.write(sink, frame)
    except OSError:  # EIO: the device is down; ENOBUFS: memory is short
        way.counts["overflowed"] += 1


def whole(wanted: TwoWay) -> bool:
    """Whether frames of segmentation offload may go through whole."""
    return all(each == Impairment(delay=each.delay) for each in (wanted.out, wanted.into))


def attached(near: str, far: str) -> tuple[int, int]:
    """Descriptors of both devices, in this process's namespace.  OSError."""
    one = tap.attach("", near)
    try:
        return one, tap.attach("", far)
    except BaseException:
        os.close(one)
        raise


def ask(path: str, request: str, seconds: float) -> Mapping[str, object]:
    """Have a relay `reload`, or `report`; its report.  OSError, or ValueError, if it does not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(seconds)
        s.connect(path)
        s.sendall(request.encode())
        answer: Mapping[str, object] = json.loads(s.recv(1 << 16))
        return answer
