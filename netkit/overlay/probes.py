"""Probes of the kernel's way, sent, and seen at the VXLAN devices that there are at present."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Address

from netkit.overlay.core import Probe
from netkit.overlay.loop import Loop
from netkit.overlay.vxlan_probe import Listener, Sender


class Probes:
    """`saw` is called with what `content` finds."""

    def __init__(self, loop: Loop, port: int, saw: Callable[[bytes, int], None]) -> None:
        self._loop, self._saw = loop, saw
        self._sender = Sender(port)
        self._listeners: dict[str, Listener] = {}

    def listen(self, devices: Iterable[str]) -> None:
        """At these, and no others; one that is not there is passed over."""
        wanted = set(devices)
        for name, listener in list(self._listeners.items()):
            if name not in wanted or _index(name) != listener.index:
                self._drop(name)
        for name in sorted(wanted - self._listeners.keys()):
            try:
                made = Listener(name)
            except OSError:
                continue
            self._listeners[name] = made
            self._loop.read(made.fileno(), partial(self._read, made))

    def _read(self, listener: Listener) -> None:
        for data, size in listener.read():
            self._saw(data, size)

    def send(self, probe: Probe) -> bool:
        """False: it is too large for the device."""
        return self._sender.send(probe, IPv4Address(probe.source))

    def close(self) -> None:
        for name in list(self._listeners):
            self._drop(name)
        self._sender.close()

    def _drop(self, name: str) -> None:
        listener = self._listeners.pop(name)
        self._loop.forget(listener.fileno())
        listener.close()


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0
