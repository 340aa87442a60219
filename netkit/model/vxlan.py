"""VXLAN devices of the kernel's, beyond what a Link is: where they send frames.

The device itself is a Link of kind vxlan.  Source: bridge(8), "dst"; RFC 7348.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import ClassVar

from netkit.model import HOST, Key, Resource, inside

ALL = "00:00:00:00:00:00"  # frames to whatever has no entry: one for each peer, a copy to each


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanFdb(Resource):
    """Frames to `mac` that leave by the VXLAN device `dev` go to `peer`."""

    order: ClassVar[int] = 5
    dev: str
    mac: str
    peer: IPv4Address
    ns: str = HOST

    @property
    def key(self) -> Key:
        return ("vxlanfdb", self.ns, self.dev, self.mac, str(self.peer))

    def describe(self) -> str:
        what = "frames without an entry" if self.mac == ALL else f"MAC address {self.mac}"
        return f"{what} to {self.peer} by {self.dev}{inside(self.ns)}"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (("link", self.ns, self.dev), *self.depends_on)
