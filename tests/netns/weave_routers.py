"""Routers that translate addresses, and firewalls, between a host of a town and the wire."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.kernel import netns
from tests.netns.weave_hosts import Town, WeaveHost

NETFILTER = 12  # a family of netlink(7)
CT_DELETE, REQUEST, ACK = 1 << 8 | 2, 1, 4  # linux/netfilter/nfnetlink_conntrack.h
MASQUERADE = """
table ip nat {
  chain out { type nat hook postrouting priority 100; oifname "out" masquerade fully-random; }
}
"""


def inside(namespace: str, *argv: str, text: str = "") -> str:
    done = subprocess.run(
        ["nsenter", f"--net={namespace}", *argv],
        input=text, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@dataclass
class Router:
    """`public` is where the host behind it is seen; of the router's own no datagram gets in."""

    home: str
    public: IPv4Address

    def run(self, *argv: str, text: str = "") -> str:
        return inside(self.home, *argv, text=text)

    def forget(self) -> None:
        """Delete all flows that it knows: what comes next gets another port."""
        request = struct.pack("=IHHIIBBH", 20, CT_DELETE, REQUEST | ACK, 1, 0, socket.AF_INET, 0, 0)
        with netns.open_socket(self.home, socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as sock:
            sock.send(request)
            answer = sock.recv(4096)
        assert struct.unpack_from("=i", answer, 16) == (0,)


@contextmanager
def router(town: Town, host: WeaveHost) -> Iterator[Router]:
    """Put a host of the town behind a router: it has 10.N.0.2 then, and can open flows only."""
    n = host.number
    home = f"/run/netns/{town.name}-r{n}"
    netns.create(home)
    try:
        made = Router(home, IPv4Address(f"192.0.2.{100 + n}"))
        inside(town.wire, "ip", "link", "del", f"u{n}")
        add = ("ip", "link", "add")
        name = home.rpartition("/")[2]
        inside(town.wire, *add, f"u{n}", "type", "veth", "peer", "name", "out", "netns", name)
        inside(town.wire, "ip", "link", "set", f"u{n}", "master", "wire", "up")
        there = host.home.rpartition("/")[2]
        made.run(*add, "in", "type", "veth", "peer", "name", "eth0", "netns", there)
        for dev, address in (("out", f"{made.public}/24"), ("in", f"10.{n}.0.1/24")):
            made.run("ip", "addr", "add", address, "dev", dev)
            made.run("ip", "link", "set", dev, "up")
        made.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        made.run("nft", "-f", "-", text=MASQUERADE)
        host.did("ip", "addr", "add", f"10.{n}.0.2/24", "dev", "eth0")
        host.did("ip", "link", "set", "eth0", "up")
        host.did("ip", "route", "add", "default", "via", f"10.{n}.0.1")
        yield made
    finally:
        netns.remove(home)
