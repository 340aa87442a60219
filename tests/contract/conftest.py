"""The same suite on a kernel made of a dict, and on Linux, with either iptables or nf_tables."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.model import Addr, Chain, Link, Netns, Peer, Resource, Route, Rule, State, state
from netkit.model.nftables import Hook, NftChain, NftElement, NftRule, NftSet, NftTable
from netkit.reconcile.converge import Change, Kernel, converge, ownership
from netkit.reconcile.plan import OwnedPredicate, Plan
from netkit.testing.kernel import NETNS, FakeKernel

NET = "netkit:0:aaaaaaaaaaaa"
OTHER = "netkit:9:bbbbbbbbbbbb"  # another engine's: foreign to us
FOLDER = "/run/netns"


@dataclass
class World:
    """A kernel under test, with resources to make on it."""

    kernel: Kernel
    folder: str  # of its containers' namespaces
    native: bool = False  # rules are of nf_tables

    @property
    def mine(self) -> OwnedPredicate:
        return ownership("0", self.folder)

    def ns(self, which: str) -> str:
        return f"{self.folder}/{which}"

    def make(self, *resources: Resource) -> Plan:
        return self.change(Change.of(state(resources)))

    def drop(self, *resources: Resource) -> Plan:
        return self.change(Change.of({}, state(resources)))

    def change(self, change: Change) -> Plan:
        return converge(change, self.kernel, self.mine)

    @staticmethod
    def forget(path: str) -> None:
        """Remove the folder of a namespace elsewhere, if it was made on disk."""
        with suppress(FileNotFoundError):
            Path(path).parent.rmdir()

    def seen(self, *resources: Resource) -> State:
        return self.kernel.observe([r.key for r in resources])

    def network(self) -> list[Resource]:
        return [
            Link(name="br0", kind="bridge", owner=NET),
            Addr(dev="br0", address=ip_interface("10.77.0.1/24"), owner=NET),
            *(_tables() if self.native else _chains()),
        ]

    def container(self, n: int) -> list[Resource]:
        """Return the resources of a container with one published port."""
        ns, owner, near = self.ns(f"c{n}"), f"{NET}:{n:012x}", f"veth{n}"
        address = ip_interface(f"10.77.0.{n + 2}/24")
        return [
            Netns(path=ns, owner=owner),
            Link(
                name=near,
                kind="veth",
                peer=Peer(ns=ns, name="eth0", mac=f"02:42:0a:4d:00:{n + 2:02x}"),
                master="br0",
                owner=owner,
            ),
            Addr(dev="eth0", address=address, ns=ns, via=near, owner=owner),
            Route(
                dst=ip_network("0.0.0.0/0"),
                dev="eth0",
                ns=ns,
                gateway=ip_address("10.77.0.1"),
                via=near,
                owner=owner,
                depends_on=(("addr", ns, "eth0", str(address)),),
            ),
            *(_elements if self.native else _rules)(owner, 8000 + n, str(address.ip)),
        ]


def _chains() -> list[Resource]:
    return [
        Chain(table="nat", name="DOCKER", owner=NET),
        _rule("nat", "PREROUTING", "-m addrtype --dst-type LOCAL -j DOCKER", NET, rank=-1),
    ]


def _rules(owner: str, port: int, target: str) -> list[Resource]:
    dnat = f"-p tcp -m tcp --dport {port} -j DNAT --to-destination {target}:80"
    return [_rule("nat", "DOCKER", dnat, owner)]


def _tables() -> list[Resource]:
    hook = Hook(kind="nat", point="prerouting", priority=-100)
    address, service = ("ipv4_addr", "inet_service"), ("ifname", "inet_proto", "inet_service")
    sets = {
        "ports": (("inet_proto", "inet_service"), address, False),
        "spans": (("ipv4_addr", "inet_proto", "inet_service"), (), True),
        "ways": (service, ("verdict",), False),
    }
    at = "meta l4proto . th dport"
    texts = (f"dnat to {at} map @ports", f"iifname . {at} vmap @ways")
    return [
        NftTable(name="netkit", owner=NET),
        NftChain(table="netkit", name="published", hook=hook, owner=NET),
        *(
            NftSet(table="netkit", name=name, fields=fields, data=data, ranges=ranges, owner=NET)
            for name, (fields, data, ranges) in sets.items()
        ),
        *(
            NftRule(table="netkit", chain="published", expression=text, rank=rank, owner=NET)
            for rank, text in enumerate(texts)
        ),
    ]


def _elements(owner: str, port: int, target: str) -> list[Resource]:
    """Return one resource of every kind, and a chain of its own."""
    span, name = f"{port * 2}-{port * 2 + 1}", f"to-{port}"
    return [
        element("ports", "tcp", str(port), value=(target, "80"), owner=owner),
        element("spans", target, "0-255", span, owner=owner),
        NftChain(table="netkit", name=name, owner=owner),
        NftRule(table="netkit", chain=name, expression="counter accept", owner=owner),
        element("ways", "eth0", "tcp", str(port), value=("goto", name), owner=owner),
    ]


def element(name: str, *at: str, value: tuple[str, ...] = (), owner: str = NET) -> NftElement:
    return NftElement(table="netkit", set=name, key_fields=at, value=value, owner=owner)


def _rule(table: str, chain: str, args: str, owner: str, rank: int = 0) -> Rule:
    return Rule(table=table, chain=chain, args=tuple(args.split()), owner=owner, rank=rank)


@pytest.fixture(
    params=[
        "fake",
        "fake, native",
        pytest.param("nft", marks=pytest.mark.root),
        pytest.param("legacy", marks=pytest.mark.root),
        pytest.param("nft, native", marks=pytest.mark.root),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    name = f"nk-{secrets.token_hex(3)}"
    kind, native = request.param.split(",")[0], "native" in request.param
    if kind == "fake":
        yield World(FakeKernel(), NETNS, native)
        return
    if os.geteuid() != 0:
        pytest.skip("needs root")
    home = f"{FOLDER}/{name}"
    netns.create(home)
    folder = Path(f"/run/{name}")
    try:
        yield World(Host(home, namespaces=str(folder), variant=kind), str(folder), native)
    finally:
        for path in (*netns.inside_folder(str(folder)), home):
            netns.remove(path)
        if folder.exists():
            folder.rmdir()
