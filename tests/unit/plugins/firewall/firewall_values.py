"""A network, a container on it and a published port, for tests of what a firewall renders."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from netkit.driver import Endpoint, Network, PortMapping, Subnet

NET = Network(
    id="a1b2" * 16,
    name="n",
    driver="bridge",
    subnets=(Subnet(cidr=IPv4Network("172.18.0.0/16"), gateway=IPv4Address("172.18.0.1")),),
)
EP = Endpoint(
    id="c3d4" * 16,
    network=NET.id,
    addresses=(IPv4Interface("172.18.0.2/16"),),
    mac="02:42:ac:12:00:02",
    ns="/ns/web",
    ifname="eth0",
)


def port(host: int, inside: int, ip: str = "0.0.0.0", proto: str = "tcp") -> PortMapping:
    return PortMapping(proto=proto, container_port=inside, host_ip=ip, host_port=host)
