"""A hub: one bridge a network, and one veth pair a container.  The sample of docs/drivers.md."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import ClassVar

from netkit.driver import Endpoint, Network, TrafficPolicy, address_resources, derive_mac, ifname
from netkit.errors import InvalidSpec
from netkit.model import Addr, Link, Peer, Resource


@dataclass(frozen=True)
class Options:
    mtu: int | None = None  # bytes; None: as the kernel has it


class Hub:
    name: ClassVar[str] = "hub"
    options: ClassVar[Mapping[str, str]] = {"mtu": "bytes, 68 to 65535 (default the kernel's)"}
    uses_ipam: ClassVar[bool] = True
    supports_port_mapping: ClassVar[bool] = True

    def parse(self, options: Mapping[str, str]) -> Options:
        text = options.get("mtu")
        if text is None:
            return Options()
        if not (text.isascii() and text.isdigit() and len(text) < 6 and 68 <= int(text) <= 65535):
            raise InvalidSpec(f"invalid value {text!r} for option mtu: use 68 to 65535")
        return Options(mtu=int(text))

    def policy(self, net: Network) -> TrafficPolicy:
        return TrafficPolicy(link=bridge(net), mode="internal" if net.internal else "nat")

    def network(self, net: Network) -> Iterable[Resource]:
        mac = derive_mac(net.engine, net.id)  # else it changes with the ports
        yield Link(name=bridge(net), kind="bridge", mac=mac, mtu=mtu(net), owner=net.owner)
        for s in net.subnets:
            if s.gateway is not None:
                address = ip_interface((s.gateway, s.cidr.prefixlen))
                yield Addr(dev=bridge(net), address=address, owner=net.owner)

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        near, far = ifname("veth", ep.id), Peer(ns=ep.ns, name=ep.ifname, mac=ep.mac)
        yield Link(name=near, kind="veth", peer=far, master=bridge(net), mtu=mtu(net),
                   owner=ep.owner(net))  # fmt: skip
        yield from address_resources(net, ep, near, net.router)


def bridge(net: Network) -> str:
    return ifname("hub-", net.id)


def mtu(net: Network) -> int | None:
    assert isinstance(net.options, Options)
    return net.options.mtu
