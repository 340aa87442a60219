"""The settings of a server on this host, in a file that outlives a reboot."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Settings(msgspec.Struct, kw_only=True, frozen=True):
    """Of this host's server of one database."""

    address: str
    servers: tuple[str, ...]  # addresses, our own first
    tls: bool = False  # it is written into the database, once and for all


def load(path: Path) -> Settings | None:
    """The stored settings; None where this host has no server."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings)
    except FileNotFoundError:
        return None


def keep(path: Path, settings: Settings) -> None:
    """Store them: complete, or as before."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(settings))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
