"""Make a part of the engine when it is first used.

What few hosts ever use (explaining rules, tracing packets, registries, builds) then costs neither
memory nor time at the start.  `make` is where its modules are imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class _Deferred(Generic[T]):
    """Stands for what `make` returns.  Thread-safe; after an error the next use makes it anew."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] | None = make
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Called for what is not here yet: all attributes of the part."""
        with self._lock:
            if self._make is not None:
                self._part, self._make = self._make(), None
        return getattr(self._part, name)


def deferred(make: Callable[[], T]) -> T:
    """Return what stands for the part that `make` returns, made with the first attribute read."""
    return cast(T, _Deferred(make))
