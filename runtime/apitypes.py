"""Base class of the Engine API's objects, and types that images and containers share."""

from __future__ import annotations

from typing import Protocol

import msgspec


class ApiObject(msgspec.Struct, rename="pascal", kw_only=True):
    """A JSON object with Docker's names of fields."""


class Health(ApiObject, omit_defaults=True):
    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Upload(Protocol):
    """Bytes that a client sends."""

    def read(self, size: int = -1, /) -> bytes:
        """ConnectionResetError once the client has disconnected."""
        ...

    def check(self) -> None:
        """Raise ConnectionResetError after a disconnect, for work that does not read."""
        ...
