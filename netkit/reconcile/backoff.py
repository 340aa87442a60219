"""Back off from repairs of what another tool keeps changing.  Pure: time is an argument.

    attempt   1    2    3    4    ...   10    11 ...
    pause     0    1    2    4    ...   256   300      seconds until the next one; where an attempt
                             insists: logged once      failed, one step further

A thing that was left alone for `FORGET` seconds starts anew.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

INSISTS = 4  # attempts until another tool is reported to insist
LONGEST = 300.0  # seconds
FORGET = 900.0  # seconds without an attempt, more than the longest pause


@dataclass(slots=True)
class Attempts:
    count: int = 0
    last: float = 0.0
    error: str = ""  # why the last one failed; "" if it did not

    @property
    def next(self) -> float:
        """Return the time of the next attempt."""
        tries = self.count + bool(self.error)
        return self.last + (min(LONGEST, 2.0 ** min(tries - 2, 20)) if tries > 1 else 0.0)

    @property
    def insists(self) -> bool:
        return self.count >= INSISTS


class Backoff:
    """Attempts by thing, on a clock that never steps back."""

    def __init__(self) -> None:
        self._attempts: dict[Hashable, Attempts] = {}

    def of(self, thing: Hashable, now: float) -> Attempts | None:
        """Return the recent attempts; None if there were none."""
        found = self._attempts.get(thing)
        return found if found is not None and now - found.last < FORGET else None

    def note(self, thing: Hashable, now: float, error: str = "") -> Attempts:
        """Count one more attempt, which succeeded or failed."""
        self._attempts = {k: a for k, a in self._attempts.items() if now - a.last < FORGET}
        found = self._attempts.setdefault(thing, Attempts())
        found.count, found.last, found.error = found.count + 1, now, error
        return found
