"""The release of Linux that runs, to be compared with that in which something came."""

from __future__ import annotations

import os
import re


def parsed(release: str) -> tuple[int, int]:
    """`"6.18.44-x"` as (6, 18), as uname(2) and configuration write it.  ValueError."""
    match = re.match(r"(\d+)\.(\d+)", release)
    if not match:
        raise ValueError(f"no release of Linux: {release!r}")
    return int(match[1]), int(match[2])


def running() -> tuple[int, int]:
    """That of this host."""
    return parsed(os.uname().release)
