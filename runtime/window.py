"""Flow control windows that shrink while all connections together buffer too much."""

from __future__ import annotations


class Window:
    """The limit of each of many buffers: `most` bytes while their sum is below `total`, `least`
    beyond it.  A single slow reader has a large window, and a thousand are bounded in sum.

    For one event loop.
    """

    def __init__(self, *, total: int, most: int, least: int) -> None:
        self._total, self._most, self._least = total, most, least
        self._held = 0

    @property
    def held(self) -> int:
        return self._held

    @property
    def crowded(self) -> bool:
        return self._held >= self._total

    @property
    def size(self) -> int:
        """Bytes that one buffer may hold now."""
        return self._least if self.crowded else self._most

    def add(self, size: int) -> None:
        """Account for `size` bytes more, or fewer if negative."""
        self._held += size
