"""No network: a namespace with a loopback interface, and that is all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from netkit.driver import Endpoint, Network, Policy
from netkit.model import Resource
from plugins.options import check_known


class Null:
    name: ClassVar[str] = "null"
    addresses: ClassVar[bool] = False
    publishes: ClassVar[bool] = False

    def parse(self, options: Mapping[str, str]) -> object:
        check_known(options, (), self.name)
        return None

    def policy(self, net: Network) -> Policy | None:
        return None

    def network(self, net: Network) -> Iterable[Resource]:
        return ()

    def endpoint(self, net: Network, ep: Endpoint) -> Iterable[Resource]:
        return ()
