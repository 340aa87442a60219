"""Protocol of the CNI front end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Cni(Protocol):
    def call(self, env: Mapping[str, str], text: str, nsid: str = "") -> tuple[int, bytes]:
        """(exit code, output) of one call of the plugin.  See `netkit.frontends.cni.service`."""
        ...
