"""What a driver reads: which options, and any input or output."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

IO = ("open", "socket.", "subprocess.", "os.", "fcntl.", "ctypes.")  # audit events, PEP 578


class Asked(dict[str, str]):
    """Options that remember which of them were looked for."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        self.keys_read: set[str] = set()

    def __getitem__(self, key: str) -> str:
        self.keys_read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.keys_read.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.keys_read.add(key)
        return super().get(key, default)


@contextmanager
def no_io() -> Iterator[list[str]]:
    """Audit events of this thread that are input or output, but for those of finalizers."""
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked.append(True)
    collecting = gc.isenabled()
    gc.disable()  # it may finalize what others left, and report that with lines of source
    seen = _io[threading.get_ident()] = []
    try:
        yield seen
    finally:
        del _io[threading.get_ident()]
        if collecting:
            gc.enable()


_io: dict[int, list[str]] = {}
_hooked: list[bool] = []  # an audit hook cannot be removed


def _audit(event: str, args: tuple[object, ...]) -> None:
    if (seen := _io.get(threading.get_ident())) is not None and event.startswith(IO):
        seen.append(f"{event}{args!r}")
