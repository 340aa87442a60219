"""Name layers on top of others, as Docker does.  Pure."""

from __future__ import annotations

import hashlib
from functools import lru_cache


@lru_cache(maxsize=1024)
def chain_ids(diff_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Docker's ids of layers on top of others, lowest first (image-spec config.md, ChainID)."""
    found = list(diff_ids[:1])
    for diff_id in diff_ids[1:]:
        text = f"{found[-1]} {diff_id}"
        found.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
    return tuple(found)
