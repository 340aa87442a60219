"""Time as the API writes it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from netkit.errors import InvalidSpec

_ZONE = re.compile(r"([+-])([0-9]{2}):([0-9]{2})$")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


def rfc3339(ns: int | None = None) -> str:
    """RFC 3339 with nanoseconds, UTC, of `ns` nanoseconds since the epoch (default: now)."""
    ns = time.time_ns() if ns is None else ns
    whole = datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{ns % 1_000_000_000:09d}Z"


def epoch_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; 0 for Go's zero time.  ValueError."""
    if not text or text.startswith("0001-"):
        return 0
    ahead = 0
    if zone := _ZONE.search(text):
        text = text[: zone.start()]
        ahead = (int(zone[2]) * 60 + int(zone[3])) * (-60 if zone[1] == "-" else 60)
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) - ahead
    return seconds * 1_000_000_000 + int((rest or "0")[:9].ljust(9, "0"))


def is_rfc3339(text: str) -> bool:
    """Is it a time as RFC 3339 writes it, with a zone, that exists in the calendar?"""
    if not _RFC3339.fullmatch(text):
        return False
    try:
        epoch_ns(text)
    except (ValueError, OverflowError):
        return False
    return True


def parse_time(text: str, now: float | None = None) -> float:
    """Seconds since the epoch: "1700000000[.5]", RFC 3339 (with or without zone) or "10m" ago.

    InvalidSpec names what is none of these.
    """
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if parts and "".join(a + b for a, b in parts) == text:
        units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
        ago = sum(float(number) * units[unit] for number, unit in parts)
        return (time.time() if now is None else now) - ago
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSpec(f"failed to parse value {text!r} as a time or a duration") from None
    return (moment if moment.tzinfo else moment.astimezone()).timestamp()
