"""What an engine was asked for, and has acknowledged."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """What the engine acknowledged: content of the marker by name, None for what was removed."""

    images: dict[str, str | None] = field(default_factory=dict)
    volumes: dict[str, str | None] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # names that a request is about just now
    doing: dict[int, tuple[str, int]] = field(default_factory=dict)  # by client: kind, its number
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by kind: the disk was full
    lock: threading.Lock = field(default_factory=threading.Lock)

    def copy(self) -> Ledger:
        with self.lock:
            return Ledger(
                dict(self.images), dict(self.volumes), set(self.open), dict(self.doing),
                self.acknowledged, Counter(self.refused),
            )  # fmt: skip

    def settled(self, later: Ledger) -> Ledger:
        """What was promised here, and is not touched by a request that `later` knows of."""
        both = self.copy()
        for mine, theirs in ((both.images, later.images), (both.volumes, later.volumes)):
            for name in list(mine):
                if name in self.open | later.open or theirs.get(name) != mine[name]:
                    del mine[name]
        return both

    def through(self, later: Ledger) -> set[str]:
        """Kinds of requests that were open here, and still are the same ones in `later`."""
        return {kind for _, (kind, _) in self.doing.items() & later.doing.items()}


class Open:
    """A request about a name: if it fails, that may have gone either way."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger, self._name = ledger, name

    def __enter__(self) -> object:
        with self._ledger.lock:
            self._ledger.open.add(self._name)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._ledger.lock:
            self._ledger.open.discard(self._name)
            if kind is not None:
                self._ledger.images.pop(self._name, None)
                self._ledger.volumes.pop(self._name, None)


class New(Open):
    """A request that makes something of a new name, with a marker."""

    def __init__(self, ledger: Ledger, name: str, text: str) -> None:
        super().__init__(ledger, name)
        self._text = text

    def __enter__(self) -> tuple[str, str]:  # type: ignore[override]
        super().__enter__()
        return self._name, self._text
