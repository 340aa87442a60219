"""Windows of flow control that shrink while all connections together hold much."""

from __future__ import annotations


class Window:
    """What each of many buffers may hold: `most` bytes while all of them hold less than `total`,
    `least` beyond.  So a slow reader alone has a large window, and a thousand are bounded in sum.

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
