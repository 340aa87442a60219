"""A port allocator that binds in another namespace: that of a host of a lab."""

from __future__ import annotations

from collections.abc import Sequence

from netkit.driver import PortMapping
from netkit.kernel import netns
from netkit.portallocator import ANY, PortAllocator
from netkit.spec import PortSpec


class HomePorts(PortAllocator):
    """Binds in the namespace at `home`, where a daemon would live."""

    def __init__(self, home: str = "") -> None:
        super().__init__()
        self.home = home

    def reserve(
        self, holder: str, wants: Sequence[PortSpec], target: str, binding: str = ANY,
        **options: bool,
    ) -> tuple[PortMapping, ...]:  # fmt: skip
        with netns.inside(self.home):
            return super().reserve(holder, wants, target, binding, **options)

    def restore(
        self, holder: str, mappings: Sequence[PortMapping], target: str, **options: bool
    ) -> list[str]:
        with netns.inside(self.home):
            return super().restore(holder, mappings, target, **options)
