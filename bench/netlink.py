"""Measure our netlink batches beside pyroute2:  python -m bench.netlink [--pairs N] [--repeats N].

The same work in a new namespace each time, the ways in turn: veth pairs that are set up, with an
address, and a route over each.  Figures are CPU time of this process, that of the kernel within
its calls included: ms a pair, the median of the repeats, and ratios within one run.  Needs root.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pyroute2 import IPBatch, IPRoute

from netkit.kernel import netns
from netkit.kernel.netlink import apply
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model import HOST, Addr, Link, Peer, Route
from netkit.reconcile.plan import Op

OURS = "netkit"
AT_ONCE = 64  # requests a send, as ours
ERROR = 2  # NLMSG_ERROR, which is an acknowledgement, too
FIRST_INDEX = 1 << 16


@dataclass(frozen=True)
class Pair:
    n: int

    @property
    def names(self) -> tuple[str, str]:
        return f"v{self.n}", f"w{self.n}"

    @property
    def index(self) -> int:
        return FIRST_INDEX + 2 * self.n

    @property
    def address(self) -> IPv4Interface:
        return IPv4Interface((IPv4Address("10.128.0.1") + 4 * self.n, 30))

    @property
    def route(self) -> IPv4Network:
        return IPv4Network((IPv4Address("10.64.0.0") + 256 * self.n, 24))

    @property
    def gateway(self) -> IPv4Address:
        return self.address.ip + 1


def netkit(pairs: list[Pair]) -> None:
    links = [Link(name=p.names[0], kind="veth", peer=Peer(ns=HOST, name=p.names[1]),
                  owner=f"netkit:{p.n}") for p in pairs]  # fmt: skip
    addrs = [Addr(dev=p.names[0], address=p.address) for p in pairs]
    routes = [Route(dst=p.route, dev=p.names[0], gateway=p.gateway) for p in pairs]
    with Session("", Tally()) as session:
        apply.apply(session, [Op(None, r) for r in (*links, *addrs, *routes)])


def iproute(pairs: list[Pair]) -> None:
    with IPRoute() as ipr:
        for p in pairs:
            for request in _requests(ipr, p):
                request()


def ipbatch(pairs: list[Pair]) -> None:
    """IPBatch only encodes: sending, and counting acknowledgements, is done here."""
    with IPBatch() as batch, socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
    ) as sock:  # fmt: skip
        sock.bind((0, 0))
        for p in pairs:
            for request in _requests(batch, p):
                request()
        messages = list(_messages(bytes(batch.batch)))
        for start in range(0, len(messages), AT_ONCE):
            some = messages[start : start + AT_ONCE]
            sock.send(b"".join(some))
            left = len(some)
            while left:
                for answer in _messages(sock.recv(1 << 16)):
                    kind, code = struct.unpack_from("=H", answer, 4)[0], answer[16:20]
                    assert kind == ERROR
                    assert code == bytes(4), os.strerror(-struct.unpack("=i", code)[0])
                    left -= 1


def _requests(ipr: IPRoute, p: Pair) -> Iterator[Callable[[], object]]:
    near, far = p.names
    peer = {"ifname": far}
    yield lambda: ipr.link("add", ifname=near, index=p.index, kind="veth", peer=peer)
    yield lambda: ipr.link("set", index=p.index, state="up", ifalias=f"netkit:{p.n}")
    yield lambda: ipr.link("set", ifname=far, state="up")
    yield lambda: ipr.addr("add", index=p.index, address=str(p.address.ip), prefixlen=30)
    yield lambda: ipr.route("add", dst=str(p.route), gateway=str(p.gateway), oif=p.index)


def _messages(data: bytes) -> Iterator[bytes]:
    while data:
        (size,) = struct.unpack_from("=I", data)
        yield data[:size]
        data = data[(size + 3) & ~3 :]


def _sample(way: Callable[[list[Pair]], None], pairs: list[Pair]) -> float:
    """Milliseconds of CPU time for a pair."""
    with netns.scratch():
        begin = time.process_time()
        way(pairs)
        took = time.process_time() - begin
        with IPRoute() as ipr:
            made = len(list(ipr.get_links(kind="veth")))
        assert made == 2 * len(pairs), f"{made} ends of {len(pairs)} pairs"
    return took * 1000 / len(pairs)


WAYS = {OURS: netkit, "pyroute2 IPRoute": iproute, "pyroute2 IPBatch": ipbatch}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.netlink", description=__doc__)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root for namespaces (run: sudo make bench-netlink)", file=sys.stderr)
        return 1
    pairs = [Pair(n) for n in range(options.pairs)]
    samples: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.repeats):
        for name, way in WAYS.items():
            samples[name].append(_sample(way, pairs))
    print(f"{options.pairs} veth pairs with an address and a route, ms of CPU time a pair")
    for name, found in samples.items():
        ratio = statistics.median(found) / statistics.median(samples[OURS])
        print(f"  {name:20} {statistics.median(found):6.2f}   x {ratio:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
