"""Where names of containers are found: NAME.NETWORK.weave.local, as weave's users know it."""

from __future__ import annotations

from typing import Final

DOMAIN: Final = "weave.local"
DEFAULT: Final = "weave"
"""The name of the default network: NAME.weave.local is on it, too."""


def full_name(label: str, network: str) -> str:
    """By which a name on a network is found everywhere."""
    return f"{label}.{DOMAIN}" if network.lower() == DEFAULT else f"{label}.{network}.{DOMAIN}"
