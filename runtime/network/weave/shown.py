"""Answers of the overlay's process as JSON has them."""

from __future__ import annotations

import math
from typing import Any

IDENT = "ident"  # bytes that are text; all others are ids


def shown(value: Any, key: str = "") -> Any:
    """The same with bytes as hexadecimal digits, and numbers without an end as null."""
    match value:
        case bytes():
            return value.decode(errors="replace") if key == IDENT else value.hex()
        case dict():
            return {str(k): shown(v, str(k)) for k, v in value.items()}
        case list() | tuple():
            return [shown(each, key) for each in value]
        case float() if not math.isfinite(value):
            return None
    return value
