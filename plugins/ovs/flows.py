"""What the bridge of a network does with packets.  Pure.

    table 0  who speaks?                                  table 1  containers and tunnels
      container, with its own MAC and IP ------------------> rules of the user's, see `access`
      container, anything else: dropped                      to the gateway: the host
      somebody else with a container's MAC or IP: dropped    anything else: NORMAL
      a tunnel, as the host or for the host: dropped (mode l2)
      a tunnel ------------------------------------------->
      the host: NORMAL

NORMAL learns where MAC addresses are.  Tunnels and the host are protected ports, which NORMAL
keeps apart: nothing that came from a tunnel goes into a tunnel, so a full mesh has no loops, and
every host has a gateway of its own with the same address, which other hosts never hear of.

In mode routed tunnels are in a VLAN of their own, which NORMAL never leads to: between the host
and a tunnel go packets from one subnet to the other, and nothing else.  (Protected ports would
refuse even those: OVS looks at that for any output, not only for NORMAL.)
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from netkit.driver import local_mac

OWN, IMPOSTOR, HOST_ONLY, UPLINK = 300, 200, 160, 100  # priorities in table 0


def router_mac(key: int, subnet: IPv4Network) -> str:
    """Of the gateway to a subnet: the same on all hosts, so that nobody has to be asked."""
    return local_mac("netkit ovs gateway", str(key), str(subnet))


def container(port: str, mac: str, address: IPv4Address) -> Iterator[str]:
    """What one container may send, and that nobody else sends in its name."""
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


def stretched(port: str, gateway_mac: str, gateways: tuple[IPv4Address, ...]) -> Iterator[str]:
    """One tunnel of a subnet that is on several hosts."""
    for gateway in gateways:
        yield f"priority={IMPOSTOR},in_port={port},arp,arp_spa={gateway},actions=drop"
    for side in ("dl_src", "dl_dst"):
        yield f"priority={HOST_ONLY},in_port={port},{side}={gateway_mac},actions=drop"
    yield f"priority={UPLINK},in_port={port},actions=resubmit(,1)"


def routed(
    port: str, key: int, own: tuple[IPv4Network, ...], theirs: tuple[IPv4Network, ...]
) -> Iterator[str]:
    """One tunnel between subnets of this host and those of a peer."""
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
