"""Convert values of flags and of daemon.json to their types.  Pure; InvalidSpec.

A value is a list of strings from repeatable flags, a string from other flags, and JSON from the
file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from netkit.errors import InvalidSpec

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
REPEATED = frozenset({"list", "pools", "pairs", "nested", "ulimits"})  # as flags


def value(kind: str, name: str, given: Any) -> Any:
    """Convert `given` to its kind; `name` is the flag or key, for error messages."""
    match kind:
        case "flag":
            return _flag(name, given)
        case "number":
            return _number(name, given)
        case "size":
            return _size(name, given)
        case "path":
            return Path(_text(name, given)).absolute()
        case "folder":
            return _folder(name, given)
        case "list":
            return tuple(_texts(name, given))
        case "pools":
            if not isinstance(given, list):
                raise InvalidSpec(f"{name} is a list of base and size, not {given!r}")
            return tuple(_pool(name, v) for v in given)
        case "pairs":
            return _pairs(name, given)
        case "nested":
            return _nested(name, given)
        case "ulimits":
            return _ulimits(name, given)
        case "json":
            return given
    return _text(name, given)


def _flag(name: str, given: Any) -> bool:
    if isinstance(given, bool):
        return given
    if str(given).lower() in {"true", "1", "t", "false", "0", "f"}:
        return str(given).lower() in {"true", "1", "t"}
    raise InvalidSpec(f"{name} is true or false, not {given!r}")


def _folder(name: str, given: Any) -> str:
    """"true" for the default folder, "" for none, else an absolute path."""
    if isinstance(given, bool) or str(given).lower() in {"true", "false"}:
        return "true" if _flag(name, given) else ""
    if isinstance(given, str) and given.startswith("/"):
        return given
    raise InvalidSpec(f"{name} is true, false or the path of a folder, not {given!r}")


def _number(name: str, given: Any) -> int:
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if isinstance(given, str) and re.fullmatch(r"-?[0-9]{1,18}", given):
        return int(given)
    raise InvalidSpec(f"{name} is a number, not {given!r}")


def _size(name: str, given: Any) -> int:
    """Bytes of "64m", "1.5GiB" or a number."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([bkmgt]?)(?:i?b)?", str(given).lower())
    if not isinstance(given, str) or not found:
        raise InvalidSpec(f"{name} is a size such as 64m, not {given!r}")
    return int(float(found[1]) * _UNITS[found[2]])


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise InvalidSpec(f"{name} is a text, not {given!r}")
    return given


def _texts(name: str, given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(v, str) for v in given):
        raise InvalidSpec(f"{name} is a list of texts, not {given!r}")
    return given


def _pairs(name: str, given: Any) -> dict[str, str]:
    """{"K": "V"}; as flags K=V."""
    if isinstance(given, list) and all(isinstance(v, str) for v in given):
        split = [text.partition("=") for text in given]
        if all(key and sep for key, sep, _ in split):
            return {key: text for key, _, text in split}
    elif isinstance(given, Mapping) and all(isinstance(v, str) for v in given.values()):
        return dict(given)
    raise InvalidSpec(f'{name} is pairs of texts, KEY=VALUE or {{"KEY": "VALUE"}}, not {given!r}')


def _nested(name: str, given: Any) -> dict[str, dict[str, str]]:
    """{"OF": {"K": "V"}}; as flags OF=K=V."""
    if isinstance(given, Mapping):
        return {of: _pairs(f"{name} of {of}", inner) for of, inner in given.items()}
    result: dict[str, dict[str, str]] = {}
    for text in _texts(name, given):
        of, sep, rest = text.partition("=")
        if not (of and sep):
            raise InvalidSpec(f"{name} {text!r}: give DRIVER=KEY=VALUE")
        result.setdefault(of, {}).update(_pairs(f"{name} of {of}", [rest]))
    return result


def _ulimits(name: str, given: Any) -> dict[str, tuple[int, int]]:
    """Soft and hard limit by name: {"nofile": {"Soft": 1, "Hard": 2}}; as flags nofile=1:2."""
    if isinstance(given, Mapping):
        return {limit: _ulimit_object(f"{name} {limit}", v) for limit, v in given.items()}
    result: dict[str, tuple[int, int]] = {}
    for text in _texts(name, given):
        found = re.fullmatch(r"([a-z]+)=(-?[0-9]{1,18})(?::(-?[0-9]{1,18}))?", text)
        if not found:
            raise InvalidSpec(f"{name} {text!r}: give NAME=SOFT[:HARD]")
        result[found[1]] = int(found[2]), int(found[3] or found[2])
    return result


def _ulimit_object(name: str, given: Any) -> tuple[int, int]:
    if not isinstance(given, Mapping) or set(given) - {"Name", "Soft", "Hard"}:
        raise InvalidSpec(f'{name} is {{"Name": TEXT, "Soft": NUMBER, "Hard": NUMBER}}')
    return _number(f"{name} Soft", given.get("Soft", 0)), _number(
        f"{name} Hard", given.get("Hard", 0)
    )


def _pool(name: str, given: Any) -> tuple[str, int]:
    try:
        if isinstance(given, str):
            pairs = dict(part.split("=", 1) for part in given.split(","))
        else:
            pairs = {k: str(v) for k, v in given.items()}
        base, size = ip_network(pairs.pop("base")), int(pairs.pop("size"))
        if pairs or not base.prefixlen <= size <= base.max_prefixlen:
            raise ValueError(given)
    except (KeyError, ValueError, AttributeError):
        raise InvalidSpec(
            f"{name} {given!r}: give base=CIDR,size=N with N not shorter than the base's prefix"
        ) from None
    return str(base), size
