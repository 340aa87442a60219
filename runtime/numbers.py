"""Parse numbers in untrusted text.  Pure."""

from __future__ import annotations

LARGEST = (1 << 63) - 1  # of Go's int, and of a JSON number that Docker reads as one


def natural(text: str, most: int = LARGEST) -> int | None:
    """Parse ASCII digits; None for any other text, and for numbers above `most`.

    int() alone accepts blanks, underscores and digits of other scripts, and raises ValueError for
    more than 4,300 of them (sys.set_int_max_str_digits).
    """
    if not (text.isascii() and text.isdecimal()):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(most)) or (value := int(digits)) > most:
        return None
    return value
