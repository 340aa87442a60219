"""Bytes for tests that are drawn from no chance."""

from __future__ import annotations

import itertools
import random as pseudo
from collections.abc import Callable


def seeded(seed: int) -> Callable[[int], bytes]:
    """Random bytes for tests: the same for the same seed."""
    return pseudo.Random(seed).randbytes


def counted(start: int = 1) -> Callable[[int], bytes]:
    """Bytes that tell what was drawn when: 1, 2, 3, ..., big-endian."""
    numbers = itertools.count(start)
    return lambda size: next(numbers).to_bytes(max(size, 1), "big")[-size:] if size else b""
