"""Decode untrusted JSON, of images and requests, within bounds.  Pure."""

from __future__ import annotations

import msgspec

from netkit.errors import InvalidSpec
from runtime import limits


def decode(data: bytes, what: str, fault: str = " is not JSON") -> object:
    """Decode JSON in UTF-8.  InvalidSpec, which begins with `what`, and then `fault` if it is none.

    Values are counted before decoding: three bytes of text may take a hundred of memory.
    """
    if data.count(b",") + data.count(b"[") + data.count(b"{") > limits.JSON_VALUES:
        raise InvalidSpec(f"{what}: more than {limits.JSON_VALUES} values")
    try:
        value = msgspec.json.decode(data)
    except RecursionError:
        raise InvalidSpec(_nested(what)) from None
    except ValueError as error:  # DecodeError, UnicodeDecodeError, an integer of 5,000 digits
        raise InvalidSpec(f"{what}{fault}: {error}") from error
    check_nesting(value, what)
    return value


def check_nesting(value: object, what: str) -> None:
    """InvalidSpec for values nested deeper than the bound; iterative, not recursive."""
    level = [value]
    for _ in range(limits.JSON_NESTING + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise InvalidSpec(_nested(what))


def _nested(what: str) -> str:
    return f"{what}: objects and lists are nested more than {limits.JSON_NESTING} deep"
