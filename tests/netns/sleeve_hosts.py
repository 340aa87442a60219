"""Hosts on one underlay, each with the sleeve and a TAP device that has the inner address.

h1 u 192.0.2.1 --+
h2 u 192.0.2.2 --+-- bridge wire, in a namespace of its own
...
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from netkit.kernel import netns
from netkit.overlay.sleeve import tap
from netkit.overlay.sleeve.plane import Plane
from netkit.overlay.sleeve.sockets import Pair
from netkit.overlay.sleeve.tables import PutPeer, PutSession
from plugins.weave.driver import LONGEST_FRAME

NETWORK, PORT = 5, 6783


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, timeout=20)


@dataclass
class SleeveHost:
    name: str
    number: int
    pair: Pair
    plane: Plane

    @property
    def home(self) -> str:
        return f"/run/netns/{self.name}"

    @property
    def outer(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def inner(self) -> str:
        return f"10.32.0.{self.number}"

    @property
    def mac(self) -> bytes:
        return bytes([2, 0x42, 10, 32, 0, self.number])

    @property
    def addresses(self) -> list[IPv4Address | IPv6Address]:
        return [ip_address(self.inner), ip_address(f"fd00::{self.number}")]

    def index(self, other: SleeveHost) -> int:
        """What we chose for the session with another."""
        return self.number << 8 | other.number

    def knows(
        self, other: SleeveHost, keys: dict[tuple[int, int], bytes], size: int,
        *, whole: bool = True, address: str = "", port: int = PORT,
    ) -> None:  # fmt: skip
        """`keys` by (sender, receiver); none: in clear."""
        put = PutPeer(
            peer=other.number, address=address or other.outer, port=port,
            index=other.index(self), key=keys.get((self.number, other.number), b""),
            size=size, whole=whole,
        )  # fmt: skip
        self.plane.put_peer(put)
        self.plane.put_session(self.session(other, keys, address))
        self.plane.put_host(NETWORK, other.mac, other.number, other.addresses)

    def session(
        self, other: SleeveHost, keys: dict[tuple[int, int], bytes], address: str = ""
    ) -> PutSession:
        return PutSession(
            index=self.index(other), peer=other.number,
            key=keys.get((other.number, self.number), b""), address=address or other.outer,
        )  # fmt: skip

    def pings(
        self, other: SleeveHost, size: int = 56, target: str = "", seconds: int = 4
    ) -> bool:
        """Return whether one ping is answered within `seconds`.

        By default ARP has time to ask again: it asks once a second, and a ping just after one in
        vain may wait nearly that long.
        """
        wait = ("-W", str(seconds), "-s", str(size))
        argv = ["busybox", "ping", "-c", "1", *wait, target or other.inner]
        done = subprocess.run(
            ["nsenter", f"--net={self.home}", *argv], capture_output=True, timeout=20
        )
        return done.returncode == 0

    def socket(self, kind: int, address: str = "", family: int = socket.AF_INET) -> socket.socket:
        made = netns.open_socket(self.home, family, kind)
        made.settimeout(20)
        made.bind((address or self.inner, 0))
        return made


def transfer(sender: SleeveHost, receiver: SleeveHost, count: int, unit: bytes) -> bool:
    """Do `count` times `unit` arrive by TCP?"""
    digests = [hashlib.blake2b(), hashlib.blake2b()]
    with receiver.socket(socket.SOCK_STREAM) as listener, sender.socket(socket.SOCK_STREAM) as out:
        listener.listen()

        def receive() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                while data := connection.recv(1 << 20):
                    digests[1].update(data)

        thread = threading.Thread(target=receive)
        thread.start()
        out.connect(listener.getsockname())
        for _ in range(count):
            out.sendall(unit)
            digests[0].update(unit)
        out.close()
        thread.join(30)
    return digests[0].digest() == digests[1].digest()


@contextmanager
def hosts(count: int, mtu: int = 1500) -> Iterator[list[SleeveHost]]:
    """Hosts with the network, that do not know each other yet."""
    name = f"nk-sl-{secrets.token_hex(2)}"
    with ExitStack() as stack:
        for each in ("wire", *(f"h{n}" for n in range(1, count + 1))):
            netns.create(f"/run/netns/{name}-{each}")
            stack.callback(netns.remove, f"/run/netns/{name}-{each}")
        wire = f"{name}-wire"
        ip("-n", wire, "link", "add", "wire", "mtu", str(mtu), "type", "bridge")
        ip("-n", wire, "link", "set", "wire", "up")
        made = [_host(stack, name, n, mtu) for n in range(1, count + 1)]
        yield made


def _host(stack: ExitStack, name: str, number: int, mtu: int) -> SleeveHost:
    ns, wire = f"{name}-h{number}", f"{name}-wire"
    ip("-n", wire, "link", "add", f"w{number}", "mtu", str(mtu), "type", "veth",
       "peer", "name", "u", "netns", ns)  # fmt: skip
    ip("-n", wire, "link", "set", f"w{number}", "master", "wire", "up")
    ip("-n", ns, "link", "set", "lo", "up")
    ip("-n", ns, "link", "set", "dev", "u", "mtu", str(mtu), "up")
    ip("-n", ns, "addr", "add", f"192.0.2.{number}/24", "dev", "u")
    ip("-n", ns, "tuntap", "add", "t", "mode", "tap", "vnet_hdr")
    with netns.inside(f"/run/netns/{ns}"):
        pair = Pair("0.0.0.0", PORT)
        file = tap.attach("t")
    stack.callback(pair.close)
    plane = Plane(pair)
    stack.callback(plane.close)
    plane.put_network(NETWORK, file)
    host = SleeveHost(ns, number, pair, plane)
    ip(
        "-n",
        ns,
        "link",
        "set",
        "dev",
        "t",
        "address",
        host.mac.hex(":"),
        "mtu",
        str(mtu - 100),
        "up",
    )
    ip("-n", ns, "link", "set", "dev", "t", "gso_max_size", str(LONGEST_FRAME))
    ip("-n", ns, "addr", "add", f"{host.inner}/24", "dev", "t", "broadcast", "10.32.0.255")
    if mtu - 100 >= 1280:
        ip("-n", ns, "addr", "add", f"fd00::{number}/64", "dev", "t", "nodad")
    return host


def introduced(
    made: list[SleeveHost], *, sealed: bool, mtu: int = 1500, whole: bool = True
) -> dict[tuple[int, int], bytes]:
    """Have all know each other; the keys."""
    pairs = [(a.number, b.number) for a in made for b in made if a is not b]
    keys = {pair: os.urandom(32) for pair in pairs} if sealed else {}
    for one in made:
        others = [other for other in made if other is not one]
        for other in others:
            one.knows(other, keys, mtu - 28, whole=whole)
        one.plane.members(NETWORK, [other.number for other in others])
    return keys
