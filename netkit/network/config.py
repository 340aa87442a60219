"""The daemon's settings on networks, and the built-in networks they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_interface, ip_network

from netkit.errors import InvalidSpec
from netkit.ipam.pools import DEFAULT_POOLS, Pool
from netkit.spec import DEFAULT_DRIVER, NetworkSpec, SubnetSpec

BRIDGE_OPTIONS = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"
DEFAULT_MTU = 1500  # bytes, as Ethernet
DOCKER0 = "docker0"  # ours to make; any other bridge is the administrator's


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """As the daemon's flags of the same names; "" and 0 mean the default."""

    bridge: str = DOCKER0  # "none": no default bridge network
    existing_addresses: tuple[
        IPv4Interface, ...
    ] = ()  # addresses the bridge has as the daemon starts
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
    mtu: int = 0  # bytes
    icc: bool = True
    ip_masq: bool = True
    ip: str = "0.0.0.0"
    ip_forward: bool = True
    pools: tuple[Pool, ...] = DEFAULT_POOLS
    ipv6_stack: bool = True  # the host's kernel has /proc/sys/net/ipv6
    sysctls: Mapping[str, str] = field(default_factory=dict)  # of every sandbox's namespace

    def default_bridge(self) -> NetworkSpec | None:
        """The network called bridge.

        Its subnet is bip's; else that of the bridge as it was found, by which an address that
        the user gave docker0 by hand is kept, as Docker does; else it is chosen.
        """
        if self.bridge == "none":
            if self.bip or self.fixed_cidr:
                raise InvalidSpec("conflicting options: bip or fixed-cidr with bridge none")
            return None
        return NetworkSpec(
            name="bridge",
            driver=DEFAULT_DRIVER,
            subnets=self._subnets(),
            options={
                f"{BRIDGE_OPTIONS}default_bridge": "true",
                f"{BRIDGE_OPTIONS}enable_icc": str(self.icc).lower(),
                f"{BRIDGE_OPTIONS}enable_ip_masquerade": str(self.ip_masq).lower(),
                f"{BRIDGE_OPTIONS}host_binding_ipv4": self.ip,
                f"{BRIDGE_OPTIONS}name": self.bridge,
                MTU: str(self.mtu or DEFAULT_MTU),
            },
        )

    def _subnets(self) -> tuple[SubnetSpec, ...]:
        aux = {"DefaultGatewayIPv4": self.default_gateway} if self.default_gateway else {}
        if self.bip:
            try:
                address = ip_interface(self.bip)
            except ValueError as bad:
                raise InvalidSpec(f"invalid bip {self.bip!r}: {bad}") from None
            subnet = SubnetSpec(
                subnet=str(address.network), gateway=str(address.ip), ip_range=self.fixed_cidr,
                aux=aux,
            )  # fmt: skip
            return (subnet,)
        if there := self._found():
            subnet = SubnetSpec(
                subnet=str(there.network), gateway=str(there.ip), ip_range=self.fixed_cidr, aux=aux
            )
            return (subnet,)
        if self.bridge != DOCKER0:
            raise InvalidSpec(
                f"bridge {self.bridge} must exist and have an IPv4 address before the daemon "
                f"starts: ip link add {self.bridge} type bridge && "
                f"ip addr add 192.168.100.1/24 dev {self.bridge} && ip link set {self.bridge} up"
            )
        if self.fixed_cidr or aux:
            # As Docker: without bip, the network is the range itself.
            if not self.fixed_cidr:
                raise InvalidSpec("default-gateway needs bip or fixed-cidr for its network")
            return (SubnetSpec(subnet=self.fixed_cidr, ip_range=self.fixed_cidr, aux=aux),)
        return ()

    def _found(self) -> IPv4Interface | None:
        """Of several addresses the one whose network has the fixed range, else the first.

        docker0 is made anew where its network does not have the range; that of another tool's
        bridge is what it is, and the range is refused later.
        """
        if not self.fixed_cidr:
            return self.existing_addresses[0] if self.existing_addresses else None
        try:
            fixed = ip_network(self.fixed_cidr)
        except ValueError as bad:
            raise InvalidSpec(f"invalid fixed-cidr {self.fixed_cidr!r}: {bad}") from None
        for each in self.existing_addresses:
            if each.version == fixed.version and fixed.subnet_of(each.network):
                return each
        return (
            self.existing_addresses[0]
            if self.existing_addresses and self.bridge != DOCKER0
            else None
        )


def predefined_networks(settings: NetworkConfig) -> tuple[NetworkSpec, ...]:
    bridge = settings.default_bridge()
    return (
        *((bridge,) if bridge else ()),
        NetworkSpec(name="host", driver="host"),
        NetworkSpec(name="none", driver="null"),
    )
