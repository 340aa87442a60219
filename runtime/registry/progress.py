"""Objects of the progress stream, as dockerd sends them."""

from __future__ import annotations

import time
from typing import Any

from runtime.images.pulling import Progress

EVERY = 0.1  # seconds between two reports on the same transfer, as dockerd


def human(size: float) -> str:
    """As Docker's units.HumanSize with four digits: 946B, 1.5kB, 12.34MB."""
    units = ("B", "kB", "MB", "GB", "TB")
    for unit in units:
        if size < 1000 or unit == units[-1]:
            return f"{float(f'{size:.4g}'):g}{unit}"
        size /= 1000
    raise AssertionError


def bar(current: int, total: int) -> str:
    if total <= 0:
        return f"{human(current):>8}"
    parts = min(current * 50 // total, 50)
    arrow = "=" * parts + ">" + " " * (50 - parts) if parts < 50 else "=" * 50 + ">"
    return f"[{arrow}] {human(current):>8}/{human(total)}"


class LayerProgress:
    """Reports on one layer, by its short id."""

    def __init__(self, send: Progress, digest: str) -> None:
        self._send = send
        self._id = digest.removeprefix("sha256:")[:12]
        self._next = 0.0

    def say(self, status: str) -> None:
        self._send({"status": status, "progressDetail": {}, "id": self._id})

    def moved(self, status: str, current: int, total: int) -> None:
        """So many bytes of all are done; sent now and then, and at the end."""
        now = time.monotonic()
        if now < self._next and current < total:
            return
        self._next = now + EVERY
        detail: dict[str, Any] = {"current": current}
        if total > 0:
            detail["total"] = total
        self._send({
            "status": status, "progressDetail": detail, "progress": bar(current, total),
            "id": self._id,
        })  # fmt: skip


def message(send: Progress, status: str, id: str = "") -> None:
    send({"status": status, "id": id} if id else {"status": status})
