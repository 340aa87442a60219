"""Texts as Go's fmt, strconv and time print and read them: they are part of history and errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

_SHORT = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9,
          "m": 60 * 10**9, "h": 3600 * 10**9}  # fmt: skip
_LARGEST = (1 << 63) - 1


def quoted(text: str) -> str:
    """strconv.Quote: %q of a string."""
    return f'"{"".join(_escaped(c, chr(34)) for c in text)}"'


def quoted_list(words: Iterable[str]) -> str:
    """%q of a []string."""
    return f"[{' '.join(map(quoted, words))}]"


def quoted_rune(number: int) -> str:
    """%q of an int: the character with this number."""
    valid = 0 <= number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF
    return f"'{_escaped(chr(number) if valid else chr(0xFFFD), chr(39))}'"


def _escaped(char: str, quote: str) -> str:
    code = ord(char)
    if char in {quote, "\\"}:
        return f"\\{char}"
    if char == " " or (char.isprintable() and not char.isspace()):
        return char
    if code in _SHORT:
        return f"\\{_SHORT[code]}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def duration(text: str) -> int:
    """Nanoseconds of time.ParseDuration.  ValueError with Go's text."""
    bad = ValueError(f"time: invalid duration {quoted(text)}")
    rest = text
    sign = -1 if rest.startswith("-") else 1
    rest = rest.removeprefix("-") if sign < 0 else rest.removeprefix("+")
    if rest == "0":
        return 0
    total = Decimal(0)
    if not rest:
        raise bad
    while rest:
        number = re.match(r"([0-9]*)(\.[0-9]*)?", rest)
        if number is None or number[0] in {"", "."} or len(number[0]) > 40:
            raise bad
        rest = rest[number.end() :]
        unit = re.match(r"[^0-9.]*", rest)
        name = unit[0] if unit else ""
        if not name:
            raise ValueError(f"time: missing unit in duration {quoted(text)}")
        if name not in _UNITS:
            raise ValueError(f"time: unknown unit {quoted(name)} in duration {quoted(text)}")
        rest = rest[len(name) :]
        total += Decimal(number[0] if number[0][-1] != "." else f"{number[0]}0") * _UNITS[name]
        if total > _LARGEST:
            raise bad
    return sign * int(total)


def duration_text(nanoseconds: int) -> str:
    """Duration.String: 1m30s, 1.5ms."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < _UNITS["s"]:
        unit = next(u for u in ("ms", "µs", "ns") if left >= _UNITS[u])
        return f"{sign}{_decimal(left, _UNITS[unit])}{unit}"
    minutes, rest = divmod(left, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, _UNITS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else f"{sign}{text}"


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = f"{part:0{len(str(unit)) - 1}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def integer(text: str, bits: int) -> int:
    """strconv.ParseInt(text, 10, bits).  ValueError with Go's text."""
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax")
    far = len(text.lstrip("+-0")) > 20
    value = 0 if far else int(text)
    if far or not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise ValueError(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    return value
