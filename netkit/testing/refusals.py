"""What Linux refuses to make or change, for a kernel made of a dict."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from netkit.errors import KernelError
from netkit.model import (
    HOST,
    PORT_FLAGS,
    Addr,
    BridgeRedirect,
    Fdb,
    Key,
    Link,
    Neigh,
    Peer,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from netkit.model.ipset import IpSet
from netkit.model.openvswitch import Offload, OvsFlows, OvsPort, PortOffload, TunnelRoute
from netkit.model.uplink import EnslavedNic
from netkit.model.vxlan import VxlanFdb
from netkit.testing import switches
from netkit.testing.firewall import BUILTIN, TARGETS


@dataclass(frozen=True, slots=True)
class Refusals:
    """`things` is what exists, `peers` the far ends of veths by the key of the near one."""

    things: dict[Key, Resource]
    peers: dict[Key, Peer]

    def must_fit(self, r: Resource, *, new: bool) -> None:
        """Raise what Linux would say to this one."""
        ns = getattr(r, "ns", HOST)
        if ns != HOST and ("netns", ns) not in self.things:
            raise KernelError(f"{r.key}: no namespace {ns}", errno=errno.ENOENT)
        match r:
            case Link():
                self._link_must_fit(r, new=new)
            case Addr() | Neigh():
                self.must_be_there(r.ns, r.dev, r)
            case Fdb():
                port = self.things.get(("link", r.ns, r.dev))
                if not isinstance(port, Link) or not port.master:
                    raise KernelError(f"{r.key}: is no bridge port", errno=errno.EOPNOTSUPP)
            case BridgeRedirect():
                self.must_be_there(r.ns, r.dev, r)
                self.must_be_there(r.ns, r.bridge, r)
            case Route():
                self.must_be_there(r.ns, r.dev, r)
                if r.gateway is not None and not self._on_link(r):
                    raise KernelError(f"{r.key}: gateway not on link", errno=errno.ENETUNREACH)
            case Sysctl():
                self._sysctl_must_fit(r)
            case Rule():
                self._rule_must_fit(r)
            case EnslavedNic():
                self.must_be_there(HOST, r.bridge, r)
            case _ if r.key[0].startswith("nft-"):
                self._nft_must_fit(r)
            case IpSet():
                if any(n.prefixlen == 0 for n in r.members):
                    raise KernelError(f"{r.key}: 0.0.0.0/0 cannot be a member", errno=errno.EINVAL)
            case Offload() | PortOffload() | VxlanFdb():
                self.must_be_there(r.ns, r.dev, r)
            case OvsPort() | TunnelRoute() | OvsFlows():
                switches.must_fit(self.things, r, r.bridge)
                if isinstance(r, OvsPort) and not r.kind:
                    self.must_be_there(HOST, r.name, r)

    def _sysctl_must_fit(self, r: Sysctl) -> None:
        parts = r.name.split("/")
        of_link = len(parts) == 5 and parts[2] in {"conf", "neigh"}
        if of_link and parts[3] not in {"all", "default"}:
            self.must_be_there(r.ns, parts[3], r)

    def _nft_must_fit(self, r: Resource) -> None:
        for key in r.needs:
            if key[0].startswith("nft-") and key not in self.things:
                raise KernelError(f"{r.key}: no {key}", errno=errno.ENOENT)

    def _on_link(self, r: Route) -> bool:
        """Is there an address, or a route to a link alone, with the gateway in it?"""
        near = [
            a for a in self.things.values()
            if isinstance(a, Addr | Route) and (a.ns, a.dev) == (r.ns, r.dev)
        ]  # fmt: skip
        spans = (a.address.network if isinstance(a, Addr) else a.dst for a in near
                 if isinstance(a, Addr) or a.gateway is None)  # fmt: skip
        return any(r.gateway in span for span in spans)

    def _link_must_fit(self, r: Link, *, new: bool) -> None:
        if not 0 < len(r.name) <= 15:
            raise KernelError(f"{r.name!r} is no name for a link", errno=errno.ERANGE)
        if r.master and ("link", r.ns, r.master) not in self.things:
            raise KernelError(f"{r.key}: no master {r.master}", errno=errno.ENODEV)
        if r.parent and ("link", HOST, r.parent) not in self.things:
            raise KernelError(f"{r.key}: no parent {r.parent}", errno=errno.ENODEV)
        if not r.master and any(getattr(r, name) for name in PORT_FLAGS):
            raise KernelError(f"{r.key}: is no bridge port", errno=errno.EOPNOTSUPP)
        if not new or r.kind != "veth":
            return
        if r.peer is None:
            raise KernelError(f"{r.key}: a veth needs a peer", errno=errno.EINVAL)
        if r.peer.ns != HOST and ("netns", r.peer.ns) not in self.things:
            raise KernelError(f"{r.key}: no namespace {r.peer.ns}", errno=errno.EINVAL)
        if self._exists(r.peer.ns, r.peer.name):
            raise KernelError(f"{r.peer.name} exists in {r.peer.ns}", errno=errno.EEXIST)

    def _rule_must_fit(self, r: Rule) -> None:
        for chain in {r.chain, r.target or "ACCEPT"} - TARGETS:
            known = ("chain", str(r.family), r.table, chain) in self.things
            if not known and (r.table, chain) not in BUILTIN:
                raise KernelError(f"no chain {r.table}/{chain}", errno=errno.ENOENT)
        for key in r.needs:
            if key[0] == "ipset" and key not in self.things:
                raise KernelError(f"no set {key[2]}", errno=errno.ENOENT)

    def _exists(self, ns: str, dev: str) -> bool:
        port = self.things.get(("ovsport", dev))
        internal = isinstance(port, OvsPort) and port.kind == "internal"
        if ns == HOST and (internal or ("ovsbridge", dev) in self.things):
            return True
        return ("link", ns, dev) in self.things or any(
            (p.ns, p.name) == (ns, dev) for p in self.peers.values()
        )

    def must_be_there(self, ns: str, dev: str, r: Resource) -> None:
        if not self._exists(ns, dev):
            raise KernelError(f"{r.key}: no such device {dev} in {ns!r}", errno=errno.ENODEV)
