"""Parse `-o key=value` options; a malformed one is refused by name.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface

from netkit.errors import InvalidSpec

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # as Go's strconv.ParseBool
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def default(value: object) -> str:
    """ "(default ...)" as `net create --help` has it; give what `parse` itself falls back to."""
    if isinstance(value, bool):
        return f"(default {str(value).lower()})"
    return f"(default {'none' if value in ('', (), None) else value})"


def flag(options: Mapping[str, str], key: str, default: bool) -> bool:
    text = options.get(key)
    if text is None:
        return default
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise InvalidSpec(f"invalid value {text!r} for option {key}: use true or false")


def number(options: Mapping[str, str], key: str, low: int, high: int) -> int | None:
    text = options.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise InvalidSpec(f"invalid value {text!r} for option {key}: use {low} to {high}")
    return int(text)


def ipv4(options: Mapping[str, str], key: str) -> IPv4Address | None:
    text = options.get(key)
    if text is None:
        return None
    try:
        return IPv4Address(text)
    except ValueError:
        raise InvalidSpec(f"invalid value {text!r} for option {key}: use an IPv4 address") from None


def interfaces(options: Mapping[str, str], key: str, most: int) -> tuple[IPv4Interface, ...]:
    """IPv4 addresses with prefix lengths, separated by commas or blanks; `most` of them at most."""
    found = []
    for word in options.get(key, "").replace(",", " ").split():
        try:
            found.append(IPv4Interface(word))
            plain = word.partition("/")[2].isdigit()
        except ValueError:
            plain = False
        if not plain:
            raise InvalidSpec(f"invalid value {word!r} for option {key}: use A.B.C.D/LENGTH,...")
    if len({each.ip for each in found}) < len(found):
        raise InvalidSpec(f"option {key} has an address twice: {options[key]}")
    if len(found) > most:
        raise InvalidSpec(f"option {key} has {len(found)} addresses: {most} at most")
    return tuple(found)


def link_name(text: str, key: str) -> str:
    """A name the kernel takes for an interface (dev_valid_name, IFNAMSIZ)."""
    bad = not 1 <= len(text.encode()) <= 15 or text in {".", ".."}
    if bad or any(c.isspace() or c in "/:" or not c.isprintable() for c in text):
        raise InvalidSpec(
            f"invalid interface name {text!r} for option {key}: "
            "1 to 15 characters without spaces, '/' or ':'"
        )
    return text
