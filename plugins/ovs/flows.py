"""OpenFlow rules of a network's bridge.  Pure.

    table 0  source checks                                 table 1  containers and tunnels
      container, with its own MAC and IP ------------------> rules of the user's, see `access`
      container, anything else: dropped                      to the gateway: the host
      others with a container's MAC or IP: dropped           anything else: NORMAL
      a tunnel, as the host or for the host: dropped (mode l2)
      a tunnel ------------------------------------------->
      the host: NORMAL

NORMAL learns where MAC addresses are.  Tunnels and the host are protected ports, which NORMAL
keeps apart: nothing that came from a tunnel goes into a tunnel, so a full mesh has no loops, and
every host has a gateway of its own with the same address, which other hosts never learn of.

Where hosts share state, each knows the containers of the others.  For its own containers table 1
answers ARP for those and sends to the right tunnel, and what comes out of a tunnel (reg0 is 1) it
sends to the right port; only what is for an unknown address gets to NORMAL.

In mode routed tunnels are in a VLAN of their own, which NORMAL never leads to: between the host
and a tunnel go packets from one subnet to the other, and nothing else.  (Protected ports would
refuse even those: OVS looks at that for any output, not only for NORMAL.)
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from netkit.driver import derive_mac

# First what a container may send, then what no other may send in its name, whatever port it came
# from: so a tunnel's or another container's frame with a spoofed address never reaches the general
# flows.
OWN, IMPOSTOR, HOST_ONLY, UPLINK = 300, 200, 160, 100  # priorities in table 0
KNOWN = 20  # in table 1


def router_mac(key: int, subnet: IPv4Network) -> str:
    """The MAC address of a subnet's gateway: equal on all hosts, so that none is looked up."""
    return derive_mac("netkit ovs gateway", str(key), str(subnet))


def container(port: str, mac: str, address: IPv4Address) -> Iterator[str]:
    """Allow a container's own addresses on its port, and drop them on all others."""
    mine = f"priority={OWN},in_port={port},dl_src={mac}"
    yield f"{mine},ip,nw_src={address},actions=resubmit(,1)"
    for said in (address, IPv4Address(0)):  # 0.0.0.0 asks if an address is free, RFC 5227
        yield f"{mine},arp,arp_sha={mac},arp_spa={said},actions=resubmit(,1)"
    yield f"priority={OWN - 1},in_port={port},actions=drop"
    yield f"priority={IMPOSTOR},dl_src={mac},actions=drop"
    yield f"priority={IMPOSTOR},arp,arp_spa={address},actions=drop"


def base(gateway_mac: str) -> Iterator[str]:
    yield f"table=0,priority={UPLINK},in_port=LOCAL,actions=NORMAL"
    yield f"table=1,priority=10,dl_dst={gateway_mac},actions=LOCAL"
    yield "table=1,priority=0,actions=NORMAL"


def stretched(
    port: str, gateway_mac: str, gateways: tuple[IPv4Address, ...], *, shared: bool = False
) -> Iterator[str]:
    """Flows of one tunnel of a subnet; `shared`: its hosts know each other's endpoints."""
    for gateway in gateways:
        yield f"priority={IMPOSTOR},in_port={port},arp,arp_spa={gateway},actions=drop"
    for side in ("dl_src", "dl_dst"):
        yield f"priority={HOST_ONLY},in_port={port},{side}={gateway_mac},actions=drop"
    arrived = "load:1->NXM_NX_REG0[]," if shared else ""
    yield f"priority={UPLINK},in_port={port},actions={arrived}resubmit(,1)"


def delivered(port: str, mac: str) -> Iterator[str]:
    """Deliver to a container of this host: NORMAL does not learn from frames that bypass it."""
    yield f"table=1,priority={KNOWN},dl_dst={mac},actions=output:{port}"


def known(port: str, mac: str, address: IPv4Address) -> Iterator[str]:
    """Answer ARP for a container behind a tunnel, and send to it without flooding.

    Nothing that came from a tunnel does.  The answer is the question turned round, as
    ovs-actions(7) has it for an ARP responder.
    """
    yield f"table=1,priority={KNOWN},reg0=0,dl_dst={mac},actions=output:{port}"
    number = f"0x{int(address):08x}"
    plain = "0x" + mac.replace(":", "")
    yield (
        f"table=1,priority={KNOWN + 1},reg0=0,arp,arp_op=1,arp_tpa={address},"
        "actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],"
        f"set_field:{mac}->eth_src,load:0x2->NXM_OF_ARP_OP[],"
        "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],"
        f"load:{plain}->NXM_NX_ARP_SHA[],load:{number}->NXM_OF_ARP_SPA[],IN_PORT"
    )


def routed(
    port: str, key: int, own: tuple[IPv4Network, ...], theirs: tuple[IPv4Network, ...]
) -> Iterator[str]:
    """Flows of one tunnel between subnets of this host and those of a peer."""
    for far in theirs:
        mac = router_mac(key, far)
        for near in own:
            yield (
                f"priority={IMPOSTOR},in_port={port},ip,dl_dst={router_mac(key, near)},"
                f"nw_src={far},nw_dst={near},actions=LOCAL"
            )
        out = f"in_port=LOCAL,dl_dst={mac}"
        yield f"priority={IMPOSTOR},{out},ip,nw_dst={far},actions=output:{port}"
        yield f"priority={HOST_ONLY},{out},actions=drop"
