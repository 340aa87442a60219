"""The fixtures of the contract suite: networks, endpoints, and a host with one NIC.

home namespace                                   namespace "outside"
  nic0 10.88.0.2/24 ------------------------------ nic1 10.88.0.1/24
  networks 10.77.N.0/24, gateway 10.77.N.1
    containers c1, c2, ... at 10.77.N.2, ...
"""

from __future__ import annotations

import errno
import hashlib
import json
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_interface, ip_network
from time import monotonic
from typing import Any

from netkit.driver import (
    Driver,
    Endpoint,
    HostAware,
    HostFacts,
    Network,
    SharedSetup,
    Subnet,
    derive_mac,
)
from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.model import HOST, Addr, Key, Link, Netns, Peer, Resource, State, state
from netkit.reconcile.converge import Change, Kernel, converge, fill_unobservable, ownership
from netkit.reconcile.plan import Op, Plan
from netkit.testing.kernel import FakeKernel
from netkit.testing.waiting import readable

ENGINE = "0"
OURS = f"netkit:{ENGINE}:"
GLOBAL = f"{OURS}global"
NIC, FAR_NIC = "nic0", "nic1"
PATIENCE = 10.0  # seconds a packet may take: carriers come up, neighbours are looked up


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A driver on trial, and the options of its networks."""

    name: str
    make: Callable[[], Driver]
    options: Mapping[str, str] = field(default_factory=dict)

    def driver(self) -> Driver:
        """A new one, as the daemon makes it: on a host without Open vSwitch's kernel module."""
        made = self.make()
        return made.configure_for(HostFacts()) if isinstance(made, HostAware) else made

    def network(self, n: int = 1, driver: Driver | None = None) -> Network:
        driver = driver or self.driver()
        cidr = ip_network(f"10.77.{n}.0/24")
        subnet = Subnet(cidr=cidr, gateway=cidr[1])
        return Network(
            id=_id("network", n),
            name=f"net{n}",
            driver=driver.name,
            engine=ENGINE,
            subnets=(subnet,) if driver.uses_ipam else (),
            options=driver.parse(self.options),
        )


def endpoint(net: Network, folder: str, n: int = 1) -> Endpoint:
    """Container `n` with its place on the network, as the controller describes it."""
    cidr = net.subnets[0].cidr if net.subnets else None
    return Endpoint(
        id=_id("endpoint", n),
        network=net.id,
        addresses=(ip_interface((cidr[n + 1], cidr.prefixlen)),) if cidr else (),
        mac=derive_mac("endpoint", str(n)) if cidr else None,
        ns=f"{folder}/c{n}",
        ifname="eth0",
        gateway=True,
        router=net.router,
    )


def _id(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


def setup(driver: Driver) -> State:
    """What all networks of the driver share; it stays when they are removed."""
    return state(driver.setup(GLOBAL) if isinstance(driver, SharedSetup) else ())


def container(net: Network, driver: Driver, ep: Endpoint) -> State:
    """A container's namespace, and all that its endpoint needs."""
    space = Netns(path=ep.ns, owner=f"{OURS}{ep.id[:12]}")
    return state([space, *driver.endpoint(net, ep)])


@dataclass
class World:
    """A host to converge on, and what to ask of it."""

    kernel: Kernel
    folder: str  # of its containers' namespaces
    outside: str  # the namespace where nic1 is
    home: str = HOST  # the file of its own namespace, if it has one

    @property
    def real(self) -> bool:
        return self.home != HOST

    def prepare(self) -> None:
        """Lay the cable: a NIC with an address that is nothing of netkit's."""
        nic = Link(name=NIC, kind="veth", peer=Peer(ns=self.outside, name=FAR_NIC))
        addresses = [
            Addr(dev=NIC, address=ip_interface("10.88.0.2/24")),
            Addr(dev=FAR_NIC, address=ip_interface("10.88.0.1/24"), ns=self.outside, via=NIC),
        ]
        self.kernel.apply([Op(None, r) for r in (Netns(path=self.outside), nic, *addresses)])

    def converge(self, desired: State, before: State | None = None, fail: int = -1) -> Plan:
        """Make `desired` of what there was `before`; with `fail`, that step of it does not work."""
        kernel = self.kernel if fail < 0 else _Failing(self.kernel, fail)
        return converge(Change.of(desired, before), kernel, ownership(ENGINE, self.folder))

    def delete(self, r: Resource) -> bool:
        """As another tool would; False if it is in use, or went with what was deleted before."""
        seen = fill_unobservable(self.kernel.observe([r.key]), {r.key: r})
        if r.key not in seen:
            return False
        try:
            self.kernel.apply([Op(seen[r.key], None)])
        except KernelError as e:
            if e.errno != errno.EBUSY:
                raise
            return False
        return True

    def remains(self) -> dict[str, object]:
        """All there is: links, addresses and routes on the host and outside, marks of ours."""
        out: dict[str, object] = {str(k): "ours" for k in self.kernel.owned(OURS)}
        if isinstance(self.kernel, FakeKernel):
            things = (r for r in self.kernel.things.values() if not r.global_setting)
            return out | {str(r.key): r for r in things}
        for place in (self.home, self.outside):
            with netns.inside(place):
                for link in _ip("link"):
                    kept = {k: link.get(k) for k in ("mtu", "master", "ifalias")}
                    out[f"{place} {link['ifname']}"] = kept
                for link in _ip("address"):
                    out[f"{place} {link['ifname']} has"] = [a["local"] for a in link["addr_info"]]
                for route in _ip("route"):
                    out[f"{place} {route['dst']}"] = (route.get("gateway"), route.get("dev"))
        return out

    def reaches(self, start: str, end: str, target: IPv4Address) -> bool:
        """Does a datagram from namespace `start` arrive at `target`, which `end` has?"""
        with (
            netns.open_socket(end, socket.AF_INET, socket.SOCK_DGRAM) as there,
            netns.open_socket(start, socket.AF_INET, socket.SOCK_DGRAM) as here,
        ):
            there.bind((str(target), 0))
            until = monotonic() + PATIENCE
            while monotonic() < until:
                try:
                    here.sendto(b"hello", there.getsockname())
                except OSError as e:
                    if e.errno not in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED}:
                        raise
                if readable(there, 0.2):
                    return True
        return False


def _ip(what: str) -> list[dict[str, Any]]:
    argv = ["ip", "-j", "-4", what]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


@dataclass
class _Failing:
    """A kernel whose n-th step from now fails, and those of undoing it work."""

    kernel: Kernel
    at: int

    def observe(self, keys: Iterable[Key]) -> State:
        return self.kernel.observe(keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        return self.kernel.owned(prefix, policy=policy)

    def apply(self, ops: Sequence[Op]) -> None:
        if not 0 <= self.at < len(ops):
            self.at -= len(ops)
            return self.kernel.apply(ops)
        at, self.at = self.at, -1
        self.kernel.apply(ops[:at])
        raise KernelError(f"{ops[at]} failed: injected", errno=errno.EIO, done=at)


__all__ = [
    "ENGINE", "GLOBAL", "NIC", "OURS", "Subject", "World", "container", "endpoint", "setup",
]  # fmt: skip
