"""Objects of the API without their empty fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def compact(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Drop those of the named keys whose value is empty (Go's omitempty)."""
    return {k: v for k, v in value.items() if k not in names or v not in (None, "", 0, [], {})}
