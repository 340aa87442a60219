"""An overlay's process with its thread that follows rows, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address

from netkit.errors import Busy, Conflict, NoRoom
from netkit.store import Database

Key = tuple[str, IPv4Address]


@dataclass
class FakeOverlay:
    """`elsewhere`: addresses in use on another host; what is released rests once."""

    database: Database
    launched: bool = True
    silent: bool = False  # it does not answer
    elsewhere: set[str] = field(default_factory=set)
    has: dict[Key, str] = field(default_factory=dict)  # holders
    resting: set[Key] = field(default_factory=set)
    holders: list[tuple[str, str]] = field(default_factory=list)  # what `holding` is about now
    calls: list[str] = field(default_factory=list)

    def allocate(self, network: str, subnet: IPv4Network, holder: str) -> IPv4Interface | None:
        if not self._called(f"allocate {subnet}"):
            return None
        for (where, address), who in self.has.items():
            if (where, who) == (network, holder) and address in subnet:
                return IPv4Interface((address, subnet.prefixlen))
        for address in subnet.hosts():
            key = (network, address)
            if key not in self.has and key not in self.resting and not self._away(address):
                self.has[key] = holder
                return IPv4Interface((address, subnet.prefixlen))
        raise NoRoom(f"all {subnet.num_addresses - 2} addresses of {subnet} are in use")

    def claim(self, network: str, address: IPv4Interface, holder: str) -> None:
        if not self._called(f"claim {address}"):
            return
        if self._away(address.ip):
            raise Conflict(f"{address.ip} is in use at h2")
        if self.has.setdefault((network, address.ip), holder) != holder:
            raise Conflict(f"{address.ip} is in use here")

    def release(self, network: str, address: IPv4Interface, holder: str) -> None:
        if self._called(f"release {address}"):
            assert self.has.pop((network, address.ip)) == holder
            self.resting.add((network, address.ip))

    @contextmanager
    def holding(self, network: str, holder: str) -> Iterator[None]:
        self.holders.append((network, holder))
        try:
            yield
        finally:
            self.holders.remove((network, holder))

    def notify_changed(self) -> None:
        """What the following thread does then: nothing stays that has no row."""
        rows = self.database.rows("SELECT network, address, holder FROM addresses")
        there = {(r["network"], ip_address(r["address"]), r["holder"]) for r in rows}
        for (network, address), holder in list(self.has.items()):
            held = (network, holder) in self.holders
            if (network, address, holder) not in there and not held:
                del self.has[network, address]

    def addresses(self) -> list[str]:
        return sorted(str(address) for _, address in self.has)

    def _away(self, address: IPv4Address) -> bool:
        return str(address) in self.elsewhere

    def _called(self, what: str) -> bool:
        if not self.launched:
            return False
        self.calls.append(what)
        if self.silent:
            raise Busy("the weave overlay does not answer")
        return True
