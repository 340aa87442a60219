"""Hundreds and thousands of peers: what they cost when nothing happens, and how fast news is.

    python -m tests.simulation.large --peers 2000

They begin as a network that has been up for long: everybody knows everybody, sessions are there.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
import tracemalloc
from bisect import bisect_left
from dataclasses import dataclass, field
from math import inf

from plugins.weave.identity import PeerId
from plugins.weave.mesh import Mesh
from plugins.weave.ourselves import Settings
from plugins.weave.output import Output
from plugins.weave.record import Kind, Record, decode
from plugins.weave.statements import Endpoint, encode
from plugins.weave.step import Address, Change
from plugins.weave.view import neighbours
from tests.simulation.host import CRYPTO, Disk, Host, Session
from tests.simulation.network import Clock, Network, Weather
from tests.simulation.world import NETWORK

IDLE = 30.0


class NoDisk(Disk):
    """Nothing is ever read from it here."""

    def write(self, changes: list[Change]) -> None:
        return


@dataclass
class Large:
    """`peers` hosts; `said` are all records."""

    peers: int
    seed: int = 1
    clock: Clock = field(default_factory=Clock)
    hosts: list[Host] = field(default_factory=list)
    addresses: dict[Address, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weather = Weather(latency=(0.02, 0.06))
        self.network = Network(self.clock, random.Random(self.seed), weather)

    def build(self) -> None:
        for number in range(self.peers):
            self.hosts.append(self.host(number))
        for host in self.hosts:
            host.start()
        said = self._meet()
        for host in self.hosts:
            assert host.mesh is not None
            host.mesh.records.merge(said)
            host.mesh.take()
            host.mesh.quiet()
            host.act()

    def host(self, number: int) -> Host:
        host = Host(number, self.clock, self.network, self.seed, self.addresses)
        host.disk = NoDisk()
        return host

    def _meet(self) -> list[Record]:
        """Have neighbours be in session, and say so; return what everybody says."""
        by_id = {host.me: host for host in self.hosts}
        live = sorted(by_id)
        said: list[Record] = []
        for host in self.hosts:
            mesh = host.mesh
            assert mesh is not None
            for peer in neighbours(host.me, live):
                other = by_id[peer]
                host.sessions[peer] = Session(other.instance, other.address)
                mesh.established(other.identity.public, other.address, self.clock.now)
            mesh.take()
            mesh.ourselves.tick(self.clock.now + 60)
            mesh.take()
            said += mesh.records.of(host.me)
        return said

    def idle(self) -> tuple[float, float, float]:
        """(bytes, datagrams, core's steps) of a peer a second."""
        self.clock.run(self.clock.now + 15)
        octets, datagrams = self.network.octets, self.network.datagrams
        events = self.clock.events
        self.clock.run(self.clock.now + IDLE)
        count = IDLE * self.peers
        return (
            (self.network.octets - octets) / count, (self.network.datagrams - datagrams) / count,
            (self.clock.events - events) / count,
        )  # fmt: skip

    def change(self) -> tuple[list[float], float]:
        """Seconds until each of the others knew of a new endpoint; bytes that all sent for it."""
        began, seen = self.clock.now, dict[int, float]()

        def watch(host: Host, output: Output) -> None:
            if any(change.kind == Kind.ENDPOINT for change in output.changes):
                seen.setdefault(host.number, self.clock.now - began)

        for host in self.hosts:
            host.watch = watch
        before = dict[int, int]()
        for host in self.hosts:
            before[host.number] = sum(host.sent.values())
        first = self.hosts[0]
        assert first.mesh is not None
        value = encode(Endpoint(NETWORK, b"\2abcde", (b"\12\2\0\1",), ("web",), "web"))
        first.mesh.ourselves.put(Kind.ENDPOINT, b"web", value)
        first.act()
        while len(seen) < len(self.hosts) and self.clock.now < began + 60:
            self.clock.run(self.clock.now + 0.1)
        pushes = sum(host.sent.get(9, 0) for host in self.hosts)
        return sorted(seen.values()), pushes

    def death(self) -> list[float]:
        """Seconds until each of the others took a host that crashed for dead."""
        gone = self.hosts.pop()
        gone.crash()
        began, dead = self.clock.now, list[float]()
        left = {host.number: host for host in self.hosts}
        while left and self.clock.now < began + 120:
            self.clock.run(self.clock.now + 0.25)
            for number, host in list(left.items()):
                assert host.mesh is not None
                if gone.me not in _live(host.mesh):
                    dead.append(self.clock.now - began)
                    del left[number]
        return dead

    def join(self) -> tuple[float, float]:
        """Seconds until a new host knew of all and all of it; bytes that it received."""
        host = self.host(self.peers)
        host.targets = [self.hosts[0].address]
        began = self.clock.now
        self.hosts.append(host)
        host.start()
        while self.clock.now < began + 300:
            self.clock.run(self.clock.now + 0.5)
            mesh, other = host.mesh, self.hosts[1].mesh
            assert mesh is not None
            assert other is not None
            if len(mesh.membership.live) == len(self.hosts) and mesh.tree.root == other.tree.root:
                break
        return self.clock.now - began, 0.0


def _live(mesh: Mesh) -> _Sorted:
    return _Sorted(mesh.membership.live)


class _Sorted:
    def __init__(self, peers: list[PeerId]) -> None:
        self._peers = peers

    def __contains__(self, peer: PeerId) -> bool:
        at = bisect_left(self._peers, peer)
        return at < len(self._peers) and self._peers[at] == peer


def memory(large: Large) -> int:
    """Bytes that one peer needs for knowing all, none of them shared with another."""
    blobs = [
        bytes(bytearray(record.blob))
        for host in large.hosts
        if host.mesh is not None
        for record in host.mesh.records.of(host.me)
    ]
    draw = random.Random(0).randbytes
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    mesh = Mesh(large.hosts[0].identity, CRYPTO, draw, Settings())
    mesh.start(0.0)
    mesh.records.merge([decode(bytes(bytearray(blob))) for blob in blobs])
    mesh.take()
    mesh.quiet()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


def at(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))] if times else inf


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.large", description=__doc__)
    parser.add_argument("--peers", type=int, default=500)
    options = parser.parse_args()
    began = time.process_time()
    large = Large(options.peers)
    large.build()
    links = sum(len(host.sessions) for host in large.hosts) / options.peers
    print(f"{options.peers} peers, {links:.1f} sessions each; built in "
          f"{time.process_time() - began:.0f} s of CPU", flush=True)  # fmt: skip
    print("idle: {:.0f} bytes, {:.1f} datagrams, {:.1f} steps a peer and second".format(
        *large.idle()), flush=True)  # fmt: skip
    times, _ = large.change()
    most = f"{at(times, 0.99):.2f} s (99 in 100), {at(times, 1):.2f} s (all)"
    print(f"one change: known to {len(times)} after {at(times, 0.5):.2f} s (half), {most}")
    times = large.death()
    print(f"one death: known to {len(times)} after {at(times, 0.5):.1f} s (half),"
          f" {at(times, 1):.1f} s (all)", flush=True)  # fmt: skip
    print(f"one that joins: knows all, as all do, after {large.join()[0]:.1f} s", flush=True)
    print(f"memory of one peer: {memory(large) / 1e6:.1f} MB")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"the simulation took {time.process_time() - began:.0f} s of CPU, {peak:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
