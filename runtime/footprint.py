"""Estimate the memory of documents, and bound the sum.  Pure."""

from __future__ import annotations

import threading

from netkit.errors import InvalidSpec, NoRoom

_VALUE = 96  # bytes of an object with its place in a list or dict; at most 86 were measured
_USUAL = 128  # values of an ordinary document, not counted: they share objects


def estimate(document: bytes) -> int:
    """Estimate the bytes of memory of a decoded JSON text."""
    values = sum(document.count(mark) for mark in (b",", b"[", b"{"))
    return len(document) + _VALUE * max(0, values - _USUAL)


class Footprint:
    """Accounts for the memory of documents of one kind.  Thread-safe."""

    def __init__(self, what: str, advice: str) -> None:
        self._what, self._advice = what, advice
        self._lock = threading.Lock()
        self._held: dict[str, int] = {}
        self._sum = 0

    def take(self, key: str, document: bytes, *, one: int, all: int) -> None:
        """Account for a new or changed document.  InvalidSpec or NoRoom change nothing.

        `one`, `all`: bounds in bytes.  A document that becomes smaller always fits.
        """
        size = estimate(document)
        with self._lock:
            before = self._held.get(key, 0)
            if size > max(one, before):
                raise InvalidSpec(
                    f"{self._what} takes {_mib(size)} of memory: at most {_mib(one)} are possible"
                )
            if self._sum - before + size > all and size > before:
                raise NoRoom(
                    f"no room for {self._what} of {_mib(size)}: all together may take "
                    f"{_mib(all)} of memory, and take {_mib(self._sum)}: {self._advice}"
                )
            self._set(key, size)

    def note(self, key: str, document: bytes) -> None:
        """Account for an existing document, without checking bounds."""
        with self._lock:
            self._set(key, estimate(document))

    def release(self, key: str) -> None:
        with self._lock:
            self._sum -= self._held.pop(key, 0)

    @property
    def sum(self) -> int:
        return self._sum

    def _set(self, key: str, size: int) -> None:
        self._sum += size - self._held.get(key, 0)
        self._held[key] = size


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
