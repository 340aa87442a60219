"""Parse query parameters as Docker does: booleans, numbers, times, filters.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from netkit.errors import InvalidSpec
from runtime import untrusted
from runtime.numbers import natural

_FALSE = frozenset({"", "0", "no", "false", "none"})
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]*)?(?:ns|us|µs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")


def boolean(text: str) -> bool:
    """Docker's rule: everything is true except "", 0, no, false and none."""
    return text.strip().lower() not in _FALSE


def integer(name: str, text: str) -> int:
    """A whole number in the range of Go's int."""
    found = re.fullmatch(r"([+-]?)(.*)", text, re.DOTALL)
    value = natural(found[2]) if found else None
    if value is None:
        raise InvalidSpec(f"invalid {name} {text[:60]!r}: must be a whole number of 64 bits")
    return -value if text.startswith("-") else value


def timestamp(name: str, text: str) -> float:
    """Seconds since the epoch of "1700000000" or "1700000000.000000123"; 0 for ""."""
    if not text:
        return 0.0
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]*)?", text):
        raise InvalidSpec(
            f"invalid {name} {text[:60]!r}: must be seconds since 1970, like 1700000000.5"
        )
    return float(text)


def moment(text: str, now: float) -> float:
    """Seconds since the epoch of user input: a duration ago ("1h30m"), a date, a number."""
    if _DURATION.fullmatch(text):
        parts = _DURATION_PART.findall(text)
        return now - sum(float(number) * _UNITS[unit] for number, unit in parts)
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]*)?", text):
        return float(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSpec(
            f"invalid time {text[:60]!r}: use a duration (10m, 1h30m), RFC 3339 or seconds "
            "since 1970"
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def filters(text: str, allowed: Collection[str]) -> dict[str, list[str]]:
    """Parse {"label": {"a=b": true}} or {"label": ["a=b"]}; names are checked."""
    if not text:
        return {}
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise InvalidSpec("invalid filters: not UTF-8") from None
    given = untrusted.decode(raw, f"invalid filters {text[:200]!r}", ": not JSON")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidSpec('invalid filters: must be an object like {"label": {"a=b": true}}')
    result: dict[str, list[str]] = {}
    for name, values in sorted(given.items()):
        if name not in allowed:
            raise invalid_filter(name)
        if isinstance(values, dict) or (
            isinstance(values, list) and all(isinstance(v, str) for v in values)
        ):
            result[name] = list(values)
        else:
            raise invalid_filter(name)
    return {name: values for name, values in result.items() if values}


def invalid_filter(name: str, value: str | None = None) -> InvalidSpec:
    return InvalidSpec(f"Invalid filter '{name}'" if value is None else
                       f"Invalid filter '{name}={value}'")  # fmt: skip


def filter_flag(given: Mapping[str, list[str]], name: str) -> bool | None:
    """A filter that is true or false; None when it is absent."""
    if name not in given:
        return None
    true = {v for v in given[name] if v.lower() in {"1", "true", "t"}}
    false = {v for v in given[name] if v.lower() in {"0", "false", "f"}}
    if set(given[name]) - true - false or (true and false):
        raise invalid_filter(name, f"[{' '.join(given[name])}]")
    return bool(true)


def prune_filters(text: str, extra: Collection[str], now: float) -> dict[str, list[str]]:
    """Filters of the prune calls; `until` comes out as seconds since the epoch."""
    given = filters(text, {"label", "label!", "until", *extra})
    if len(given.get("until", ())) > 1:
        raise InvalidSpec("more than one until filter specified")
    if "until" in given:
        try:
            given["until"] = [f"{moment(given['until'][0], now):.9f}"]
        except InvalidSpec:
            text = given["until"][0][:60]
            raise InvalidSpec(f'failed to parse value as time or duration: "{text}"') from None
    return given
