"""Filter what containers send onto a segment that is shared with others, at their ports.

    table bridge netkit-NETWORK
      prerouting           iifname @ports -> port      frames to any host, this one included
      port                 IPv4 but UDP from its MAC
                           and address, untagged       accept: most frames, by one lookup
                           tagged                      drop: other VLANs are not its
                           not from its MAC            drop
                           ARP from its MAC, address   accept; also its own probes (RFC 5227)
                           from a DHCP server's port,
                           to a DHCP client's          drop: RFC 2131; leases are netkit's business
                           IPv4 from its address       accept
                           all else                    drop: IPv6 with its router advertisements
                                                       (there is no IPv6 here), spanning tree, ...

All of it is elements of four sets, so a frame costs the same beside one container and beside
hundreds, and what others do in tables of their own stays theirs: accepted here is only not
dropped here.  The bridge family of nf_tables is in Linux since 3.14, and needs no br_netfilter.

Limit: what a bridge takes in itself and does not forward (LLDP; spanning tree where it speaks
that, which ours does not) does not come by here.
"""

from __future__ import annotations

from collections.abc import Iterator

from netkit.driver import Endpoint, Network
from netkit.model import Resource
from netkit.model.layout import PortSecurity
from netkit.model.nftables import Hook, NftChain, NftElement, NftRule, NftSet, NftTable

FIRST = -300  # before the rules of other tools; NF_BR_PRI_NAT_DST_BRIDGED
TABLES = "netkit-"  # beginning of their names
SETS = {
    "ports": ("ifname",),
    "macs": ("ifname", "ether_addr"),
    "sources": ("ifname", "ipv4_addr"),
    "identities": ("ifname", "ether_addr", "ipv4_addr"),
}
PORT = (
    "ether type ip ip protocol != udp iifname . ether saddr . ip saddr @identities accept",
    "vlan id 0-4095 counter drop",
    "iifname . ether saddr != @macs counter drop",
    "ether type arp iifname . arp saddr ether != @macs counter drop",
    "ether type arp iifname . arp saddr ip @sources accept",
    "ether type arp arp saddr ip 0.0.0.0 iifname . arp daddr ip @sources accept",
    "ether type ip udp sport 67 counter drop",
    "ether type ip udp dport 68 counter drop",
    "ether type ip iifname . ip saddr @sources accept",
    "counter drop",
)
PREROUTING = ("iifname @ports jump port",)
PORT_SECURITY = PortSecurity(
    tables=TABLES,
    rules=(("port", len(PORT)), ("prerouting", len(PREROUTING))),
    ports="ports",
    macs="macs",
    sources="sources",
)


def table_of(net: Network) -> str:
    return f"bridge {TABLES}{net.id[:12]}"


def guarded(net: Network) -> Iterator[Resource]:
    """The table of a network."""
    table, owner = table_of(net), net.owner
    yield NftTable(name=table, owner=owner)
    for name, fields in SETS.items():
        yield NftSet(table=table, name=name, fields=fields, owner=owner)
    yield NftChain(table=table, name="port", owner=owner)
    for rank, text in enumerate(PORT, -len(PORT)):
        yield NftRule(table=table, chain="port", expression=text, rank=rank, owner=owner)
    hook = Hook(kind="filter", point="prerouting", priority=FIRST)
    yield NftChain(table=table, name="prerouting", hook=hook, owner=owner)
    for rank, text in enumerate(PREROUTING, -len(PREROUTING)):
        yield NftRule(table=table, chain="prerouting", expression=text, rank=rank, owner=owner)


def admitted(net: Network, ep: Endpoint, port: str) -> Iterator[Resource]:
    """One container at the host's link `port`, with its MAC address and its addresses."""
    table, owner = table_of(net), ep.owner(net)
    if ep.mac:
        yield NftElement(table=table, set="macs", key_fields=(port, ep.mac), owner=owner)
    for address in ep.addresses:
        ip = str(address.ip)
        yield NftElement(table=table, set="sources", key_fields=(port, ip), owner=owner)
        if ep.mac:
            yield NftElement(
                table=table, set="identities", key_fields=(port, ep.mac, ip), owner=owner
            )
    yield NftElement(table=table, set="ports", key_fields=(port,), owner=owner)
