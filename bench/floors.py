"""The floors: the same work by hand, on the machine and beside the engine that is measured.

A bare `runc run` of the bundle that netkit made for a container; the same links, addresses and
routes by netlink alone, in a namespace of their own, without rows, rules, names or a look whether
it is as it should be.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_interface, ip_network
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers import IMAGE, Peer
from netkit.kernel import netns
from netkit.kernel.netlink import apply
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model import HOST, Addr, Link, Resource, Route
from netkit.model import Peer as End
from netkit.reconcile.plan import Op


def runc_run(peer: Peer, repeats: int) -> list[float]:
    """`runc run` of a container's bundle with `true` as its command, ms: no conmon, no network.

    The first, which fills caches, is not counted.
    """
    with _bundle(peer) as bundle:
        argv = ["runc", "--root", str(bundle / "state"), "run", "-b", str(bundle), "floor"]
        return [_timed(argv) for _ in range(repeats + 1)][1:]


@contextmanager
def _bundle(peer: Peer) -> Iterator[Path]:
    """A bundle on the mounted file system of a container of netkit's, which runs meanwhile."""
    assert peer.engine is not None
    ident = peer.engine.out("run", "-d", IMAGE, "sleep", "1000000")
    try:
        with TemporaryDirectory(prefix="nk-floor-", dir=peer.engine.rundir) as folder:
            made = peer.engine.rundir / "bundles" / ident / "config.json"
            document = json.loads(made.read_text())
            document["process"]["args"] = ["true"]
            for namespace in document["linux"]["namespaces"]:
                if namespace["type"] == "network":  # a new one, with nothing but a loopback
                    namespace.pop("path", None)
            document["linux"]["cgroupsPath"] += "-floor"
            (Path(folder) / "config.json").write_text(json.dumps(document))
            yield Path(folder)
    finally:
        peer.engine.docker("rm", "-f", ident)


def _timed(argv: Sequence[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return (time.perf_counter() - begin) * 1000


BRIDGE = Link(name="br0", kind="bridge", filtered=None, owner="netkit:floor")


def bridge(_peer: Peer, repeats: int) -> list[float]:
    """A bridge that is up, with an address, ms."""
    address = Addr(dev="br0", address=ip_interface("10.91.0.1/24"))
    with netns.scratch():
        return _made([BRIDGE, address], [BRIDGE], repeats)


def pair(_peer: Peer, repeats: int) -> list[float]:
    """A veth pair between a bridge and a namespace, with address and default route there, ms."""
    with TemporaryDirectory(prefix="nk-floor-") as folder, netns.scratch():
        inside = f"{folder}/ns"
        netns.create(inside)
        try:
            link = Link(name="v0", kind="veth", peer=End(ns=inside, name="eth0"), master="br0",
                        owner="netkit:floor")  # fmt: skip
            address = Addr(dev="eth0", ns=inside, address=ip_interface("10.91.0.2/24"))
            route = Route(dst=ip_network("0.0.0.0/0"), dev="eth0", ns=inside,
                          gateway=ip_interface("10.91.0.1/24").ip)  # fmt: skip
            _apply(
                [Op(None, BRIDGE), Op(None, Addr(dev="br0", address=ip_interface("10.91.0.1/24")))]
            )
            return _made([link, address, route], [link], repeats)
        finally:
            netns.remove(inside)


def _made(made: Sequence[Resource], removed: Sequence[Resource], repeats: int) -> list[float]:
    out = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        _apply([Op(None, r) for r in made])
        out.append((time.perf_counter() - begin) * 1000)
        _apply([Op(r, None) for r in removed])
    return out[1:]


def _apply(ops: Sequence[Op]) -> None:
    with Session(HOST, Tally()) as session:
        apply.apply(session, ops)
