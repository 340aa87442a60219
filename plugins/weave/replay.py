"""Which counters were received already: RFC 6479's window, as WireGuard has it.

A ring of words: to go forward is to clear the words that are entered, never to shift the whole.
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 8192  # counters below the highest one that may still come
_BITS: Final = 64
_WORDS: Final = WINDOW // _BITS + 1  # the word being entered is not part of the window


class ReplayWindow:
    """Of one key and direction.  Ask only after the tag was found to be right: see `take`."""

    __slots__ = ("_highest", "_words")

    def __init__(self) -> None:
        self._words = [0] * _WORDS
        self._highest = -1

    @property
    def highest(self) -> int:
        """-1 before the first."""
        return self._highest

    def take(self, counter: int) -> bool:
        """Whether it is the first time; from now on it is not.

        Only for counters of datagrams that are authentic: a forged high one would shut out true
        ones.
        """
        word, bit = divmod(counter, _BITS)
        if counter > self._highest:
            self._enter(word)
            self._highest = counter
        elif counter + WINDOW <= self._highest:
            return False
        place, mask = word % _WORDS, 1 << bit
        if self._words[place] & mask:
            return False
        self._words[place] |= mask
        return True

    def _enter(self, word: int) -> None:
        before = self._highest // _BITS if self._highest >= 0 else -1
        for new in range(max(before + 1, word - _WORDS + 1), word + 1):
            self._words[new % _WORDS] = 0
