"""What a user chose when the overlay was launched."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from netkit.errors import InvalidSpec
from plugins.weave import ourselves, prefixes
from plugins.weave.prefixes import Prefix
from plugins.weave.step import Address
from plugins.weave.trust import Subnet, Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of `weave launch`."""

    nickname: str = ""
    software: str = ""
    """Its version, shown to other peers."""
    addresses: tuple[Address, ...] = ()
    """Where this host can be reached, as far as it knows, the best first; at most 8."""
    password: str = field(default="", repr=False)
    trusted_subnets: tuple[str, ...] = ()
    discovery: bool = True
    range: str = "10.32.0.0/12"
    """Of addresses that the overlay gives out, where this host founds it."""
    no_fastdp: str = ""
    """Why nothing goes by the kernel's VXLAN on this host; "": it may."""
    mtu: int = 9000
    """Bytes of the longest packets that are tried on any path."""

    def trust(self) -> Trust:
        """InvalidSpec: a subnet is none."""
        return Trust(bool(self.password), tuple(_subnet(text) for text in self.trusted_subnets))

    def prefix(self) -> Prefix:
        """InvalidSpec."""
        try:
            return prefixes.parse(self.range)
        except ValueError as error:
            raise InvalidSpec(f"the overlay's range {self.range!r}: {error}") from None

    def ourselves(self, overlays: tuple[str, ...]) -> ourselves.Settings:
        return ourselves.Settings(
            nickname=self.nickname, software=self.software, addresses=self.addresses,
            discovery=self.discovery, overlays=(self.range, *overlays),
        )  # fmt: skip


def _subnet(text: str) -> Subnet:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidSpec(f"trusted subnet {text!r}: {error}") from None
