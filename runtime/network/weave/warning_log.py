"""Log what the overlay's process warns of, once, and when it is over."""

from __future__ import annotations

import logging

from netkit.overlay import verbs
from netkit.overlay.client import Channel

log = logging.getLogger("netkit.weave")


class WarningLog:
    def __init__(self) -> None:
        self._logged: frozenset[str] = frozenset()

    def on_sync(self, channel: Channel, fresh: bool) -> dict[str, str]:
        """For `Following.on_sync`; no problems: `Status` has them."""
        found = frozenset(map(str, channel.call(verbs.Warnings())))
        for warning in sorted(found - self._logged):
            log.warning("weave: %s", warning)
        for warning in sorted(self._logged - found):
            log.info("weave: over: %s", warning)
        self._logged = found
        return {}
