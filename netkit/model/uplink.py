"""A NIC of the host as a port of a bridge of ours, as a value.

Imports nothing of ours but the model.

before    eth0  10.211.55.3/24, default via 10.211.55.1
after     br-eth0  10.211.55.3/24, default via 10.211.55.1
          `- eth0     `- veth of a container, on the same segment
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netkit.model import HOST, Key, Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class EnslavedNic(Resource):
    """`dev` is a port of `bridge`, which has its MAC address, its addresses and its routes.

    Making and removing one moves them, all or none: see `netkit.kernel.uplink.uplink`.  What the
    bridge has when it is removed goes to the NIC, so what was changed meanwhile stays changed.
    Ours if the bridge is, by its ifalias.  Not moved: settings below /proc/sys, neighbours,
    policy rules that name the NIC.

    Observed as not `routed` while routes are missing that the bridge lost when it was set down.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"routed"})
    carries_owner: ClassVar[bool] = True
    order: ClassVar[int] = 4
    dev: str
    bridge: str
    routed: bool = True

    @property
    def key(self) -> Key:
        return ("uplink", HOST, self.dev)

    def describe(self) -> str:
        return f"port {self.dev} of bridge {self.bridge}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("link", HOST, self.bridge), *self.depends_on)
