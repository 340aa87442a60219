"""The daemon's settings on networks, and the built-in networks they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface

from netkit.errors import InvalidSpec
from netkit.ipam import DEFAULT_POOLS, Pool
from netkit.spec import NetworkSpec, SubnetSpec

BRIDGE_OPTIONS = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"
DEFAULT_MTU = 1500  # bytes, as Ethernet


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """As the daemon's flags of the same names; "" and 0 mean the default."""

    bridge: str = "docker0"  # "none": no default bridge network
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
        """The network called bridge.  Its subnet is chosen where bip does not say."""
        if self.bridge == "none":
            if self.bip or self.fixed_cidr:
                raise InvalidSpec("conflicting options: bip or fixed-cidr with bridge none")
            return None
        return NetworkSpec(
            name="bridge",
            driver="bridge",
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
        if self.fixed_cidr or aux:
            # As Docker: without bip, the network is the range itself.
            if not self.fixed_cidr:
                raise InvalidSpec("default-gateway needs bip or fixed-cidr to say which network")
            return (SubnetSpec(subnet=self.fixed_cidr, ip_range=self.fixed_cidr, aux=aux),)
        return ()


def built_in(settings: Settings) -> tuple[NetworkSpec, ...]:
    bridge = settings.default_bridge()
    return (
        *((bridge,) if bridge else ()),
        NetworkSpec(name="host", driver="host"),
        NetworkSpec(name="none", driver="null"),
    )
