"""A host that is a network namespace of its own, and containers in it."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.kernel.iptables.tools import Variant
from netkit.model import Addr, Link, Netns, Peer, Resource, Route, Rule, Sysctl, state
from netkit.model.layout import Territory
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Plan
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables

NET = "netkit:0:aaaaaaaaaaaa"


@dataclass
class Lab:
    name: str
    made: list[Host] = field(default_factory=list)

    @property
    def home(self) -> str:
        return f"/run/netns/{self.name}"

    @property
    def folder(self) -> str:
        return f"/run/{self.name}"

    def ns(self, which: str) -> str:
        return f"{self.folder}/{which}"

    def host(self, variant: Variant | None = "nft") -> Host:
        """Return a host as the daemon makes it: a prestarted tool waits for the next change."""
        host = Host(
            self.home,
            namespaces=self.folder,
            variant=variant,
            territory=Iptables.layout.territory if variant else Territory(),
            port_maps=Nftables.layout.port_maps,
            standby=True,
            direct=True,
        )
        self.made.append(host)
        return self.made[-1]

    def close(self) -> None:
        for host in self.made:
            host.close()

    def make(self, host: Host, *resources: Resource) -> Plan:
        return converge(Change.of(state(resources)), host, ownership("0", self.folder))

    def drop(self, host: Host, *resources: Resource) -> Plan:
        return converge(Change.of({}, state(resources)), host, ownership("0", self.folder))

    def run(self, *argv: str, at: str = "", text: str | None = None) -> str:
        """Return the output of a program in a namespace; it must succeed."""
        done = self.tried(*argv, at=at, text=text)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def tried(
        self, *argv: str, at: str = "", text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--net={at or self.home}", *argv]
        return subprocess.run(command, capture_output=True, text=True, input=text, timeout=60)

    def bridge(self) -> list[Resource]:
        """Return a bridge without IPv6, whose multicast costs time for every port."""
        quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", owner=NET)
        return [
            quiet,
            Link(name="br0", kind="bridge", owner=NET, depends_on=(quiet.key,)),
            Addr(dev="br0", address=ip_interface("10.77.0.1/16"), owner=NET),
        ]

    def container(self, n: int, **link: object) -> list[Resource]:
        ns, owner, near = self.ns(f"c{n}"), f"{NET}:{n:012x}", f"veth{n}"
        address = ip_interface((ip_address("10.77.0.2") + n, 16))
        quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", ns=ns, owner=owner)
        return [
            Netns(path=ns, owner=owner),
            quiet,
            Link(
                name=near,
                kind="veth",
                peer=Peer(ns=ns, name="eth0", mac=f"02:42:0a:4d:{n >> 8:02x}:{n & 255:02x}"),
                master="br0",
                owner=owner,
                depends_on=(quiet.key,),
                **link,
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
        ]


def rule(table: str, chain: str, args: str, *, rank: int = 0, owner: str = NET) -> Rule:
    return Rule(table=table, chain=chain, args=tuple(args.split()), rank=rank, owner=owner)


@contextmanager
def fresh_lab() -> Iterator[Lab]:
    lab = Lab(f"nk-{secrets.token_hex(3)}")
    netns.create(lab.home)
    try:
        yield lab
    finally:
        lab.close()
        for path in (*netns.inside_folder(lab.folder), lab.home):
            netns.remove(path)
        if Path(lab.folder).exists():
            Path(lab.folder).rmdir()


@pytest.fixture
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with fresh_lab() as lab:
        yield lab
