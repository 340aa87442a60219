"""A network in memory, whether or not its driver is installed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from netkit.driver import Driver, Endpoint, Network, TrafficPolicy
from netkit.errors import NotFound
from netkit.model import Resource
from netkit.spec import NetworkRecord


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """A network's row, its value for drivers, its driver and its policy."""

    record: NetworkRecord
    config: Network
    driver: Driver
    policy: TrafficPolicy | None

    @property
    def name(self) -> str:
        return self.record.spec.name


class MissingDriver:
    """Stands in for a driver that is not installed any more, or that refuses a stored network.

    Its networks are only remembered, and can be removed.  `reason`: the driver's error.
    """

    name: ClassVar[str] = "missing"
    options: ClassVar[Collection[str]] = ()
    uses_ipam: ClassVar[bool] = False
    supports_port_mapping: ClassVar[bool] = False

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def parse(self, options: Mapping[str, str]) -> object:
        return None

    def policy(self, net: Network) -> TrafficPolicy | None:
        return None

    def network(self, net: Network) -> Iterable[Resource]:
        return ()

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        return ()


def no_driver(name: str, known: Iterable[str] = ()) -> NotFound:
    have = f"; there are {', '.join(sorted(known))}" if known else ""
    return NotFound(f"could not find plugin {name} in v1 plugin registry: plugin not found{have}")
