"""No network: a namespace with a loopback interface only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import ClassVar

from netkit.driver import Endpoint, Network, TrafficPolicy, Traits
from netkit.model import Resource


class Null:
    name: ClassVar[str] = "null"
    options: ClassVar[Collection[str]] = ()
    uses_ipam: ClassVar[bool] = False
    supports_port_mapping: ClassVar[bool] = False
    traits: ClassVar[Traits] = Traits(single_instance=True, exclusive=True)

    def parse(self, options: Mapping[str, str]) -> object:
        return None

    def policy(self, net: Network) -> TrafficPolicy | None:
        return None

    def network(self, net: Network) -> Iterable[Resource]:
        return ()

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        return ()
