"""Tunnels by a VXLAN device of the kernel's, which is a port of the network's bridge.  Pure.

    bridge [nkvx...] -- kernel: VXLAN with the network's key, to UDP port 8472 of each peer

The userspace datapath's own tunnels are as fast as its CPU; a device takes TCP segments of 64 KB as
they are, if ovs-vswitchd has them (userspace TSO), and gives it such.  One that does not segment
cannot take those from the device, so the network needs one that does.

One device a network: the kernel has no two with one key.  Frames are sent by its forwarding
table: where hosts know each other's containers it has an entry for each, else the device learns, as
the bridge would of tunnels.  It accepts packets with the key from any source address, so a rule
drops those of other hosts than peers.
The port is not that of other tunnels (4789), whose packets are translated: see `underlay`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.driver import ifname
from netkit.model import Key, Link, Resource, Rule, Sysctl
from netkit.model.openvswitch import OvsPort, SegmentedPort
from netkit.model.vxlan import ALL, VxlanFdb

PORT = 8472  # of Linux's own VXLAN, before IANA had given one
VNI = "0>>22&0x3C@12>>8"  # of iptables' u32: 12 bytes after the IP header, less its last byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    name: str
    bridge: str
    key: int
    mtu: int
    peers: tuple[IPv4Address, ...]
    learning: bool
    owner: str
    rank: int  # distinguishes networks with the same peers

    def resources(self) -> Iterator[Resource]:
        options = {
            "df": "unset", "dstport": str(PORT), "id": str(self.key),
            "learning": "on" if self.learning else "off", "ttl": "64", "udpcsum": "on",
        }  # fmt: skip
        link = Link(
            name=self.name,
            kind="vxlan",
            mtu=self.mtu,
            options=tuple(options.items()),
            owner=self.owner,
        )
        yield link
        yield from _ignored(self.name, self.owner, link.key)
        yield from self._rules()
        yield OvsPort(name=self.name, bridge=self.bridge, protected=True, owner=self.owner)
        yield SegmentedPort(port=self.name, owner=self.owner)
        for peer in self.peers:
            yield VxlanFdb(dev=self.name, mac=ALL, peer=peer, owner=self.owner)

    def known(self, places: Iterable[tuple[str, IPv4Address]]) -> Iterator[Resource]:
        """Where containers of other hosts are: MAC address and peer."""
        for mac, peer in places:
            yield VxlanFdb(dev=self.name, mac=mac, peer=peer, owner=self.owner)

    def _rules(self) -> Iterator[Rule]:
        ours = (
            *("-p", "udp", "--dport", str(PORT), "-m", "addrtype", "--dst-type", "LOCAL"),
            *("-m", "u32", "--u32", f"{VNI}={self.key:#x}"),
        )
        for peer in self.peers:
            yield self._rule("-s", f"{peer}/32", *ours, "-j", "ACCEPT", rank=self.rank)
        yield self._rule(*ours, "-j", "DROP", rank=self.rank + 1)

    def _rule(self, *args: str, rank: int) -> Rule:
        return Rule(table="raw", chain="PREROUTING", args=args, owner=self.owner, rank=rank)


def name_of(network: str) -> str:
    return ifname("nkvx", network)


def _ignored(name: str, owner: str, after: Key) -> Iterator[Sysctl]:
    for setting, value in (("ipv4", "arp_ignore=8"), ("ipv6", "disable_ipv6=1")):
        option, _, number = value.partition("=")
        path = f"net/{setting}/conf/{name}/{option}"
        yield Sysctl(name=path, value=number, owner=owner, depends_on=(after,))
