"""The known word that was probably meant, for hints in errors.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 60  # characters looked at: the work grows with the square


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The word of `known` that `word` is a slip of; None if none is close.

    Close: one slip in up to five letters, two in up to ten, else three; or the last part of a
    name with dots or dashes, as "mtu" is of com.docker.network.driver.mtu.  A slip is one letter
    too many, too few, another, or two that changed places (optimal string alignment distance).
    """
    word = word[:LONGEST]
    allowed = 1 if len(word) <= 5 else 2 if len(word) <= 10 else 3
    best: tuple[int, str] | None = None
    for candidate in known:
        far = distance(word.lower(), candidate[:LONGEST].lower())
        if far <= allowed and far < max(len(word), 2) and (best is None or far < best[0]):
            best = far, candidate
    if best is None and len(word) >= 3:
        ends = [k for k in known if k.endswith((f".{word}", f"-{word}", f"_{word}"))]
        return ends[0] if len(ends) == 1 else None
    return best[1] if best else None


def hint(word: str, known: Iterable[str]) -> str:
    """ ", did you mean 'X'?" to end an error with, or nothing."""
    found = nearest(word, list(known))
    return f", did you mean {found!r}?" if found else ""


def distance(a: str, b: str) -> int:
    """Slips between two words."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
