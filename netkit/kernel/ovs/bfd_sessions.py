"""Since when the BFD of each tunnel is as it is: one that has just begun is down, and not yet up.

`flap_count` counts how often BFD has changed between up and not up since ovs-vswitchd made the
session: 0 is one that was never up (lib/bfd.c, bfd_forwarding__).  The database has no times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from netkit.kernel.ovs.idl import Row

# Seconds in which a session comes up if its far end is there: both ends send once a second until
# then, and three packets decide (RFC 5880 6.8.3); ovs-vswitchd may be busy.
COMING_UP = 8.0


class _Seen(NamedTuple):
    far_end: frozenset[tuple[str, str]]
    flaps: int
    since: float
    changed: bool  # it has been with another far end, or in another ovs-vswitchd, before


class BfdSessions:
    """For the thread of the database's copy alone."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[object, _Seen] = {}

    def forget(self) -> None:
        """The copy is a new one: what happened meanwhile is not known."""
        self._seen.clear()

    def note(self, event: str, row: Row) -> None:
        """A row of Interface has come, has changed or has gone."""
        if event == "delete" or "remote_ip" not in row.options:
            self._seen.pop(row.uuid, None)
            return
        far_end, flaps = frozenset(row.options.items()), _flaps(row)
        before = self._seen.get(row.uuid)
        if before is None or before.far_end != far_end or flaps < before.flaps:
            self._seen[row.uuid] = _Seen(far_end, flaps, self._now(), before is not None)
        elif flaps != before.flaps:
            self._seen[row.uuid] = before._replace(flaps=flaps)

    def may_come_up(self, row: Row) -> bool:
        """Whether it is not up since it began, and that was only just now."""
        seen = self._seen.get(row.uuid)
        if seen is None or row.bfd.get("enable") != "true":
            return False
        if row.bfd_status.get("state") == "up" or (seen.flaps and not seen.changed):
            return False
        return self._now() - seen.since < COMING_UP


def _flaps(row: Row) -> int:
    text = row.bfd_status.get("flap_count", "")
    return int(text) if text.isdecimal() else 0
