"""Which peers may be sent data in clear (`--password`, `--trusted-subnets`)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from plugins.weave.step import Address, Where

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Trust:
    """Control is always sealed, and so is what others pass on.  Other data goes in clear where both
    sides say that it may."""

    password: bool
    subnets: tuple[Subnet, ...] = ()

    def needs_sealing(self, where: Where) -> bool:
        """Whether we demand that data from and to there is sealed.

        By relay it is, for who relays would read along, and could change it: that it is sealed
        costs nothing there, as relaying costs more.  From host to host no secrecy was asked for
        without a password; with one, addresses of a trusted subnet are exempt.
        """
        if not isinstance(where, Address):
            return True
        if not self.password:
            return False
        try:
            address = ipaddress.ip_address(where.host)
        except ValueError:  # "fe80::1%eth0" is one, a name is none
            return True
        mapped = getattr(address, "ipv4_mapped", None)
        return not any((mapped or address) in subnet for subnet in self.subnets)
