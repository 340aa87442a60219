"""What templates can call.  Pure."""

from __future__ import annotations

import json

from netkit.cli.gotemplate import TemplateError
from netkit.cli.govalues import show, to_json, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

    Function = Callable[..., object]


def _join(items: object, separator: str) -> str:
    if items is None:
        return ""
    if isinstance(items, dict):
        return separator.join(sorted(show(each) for each in items.values()))
    if not isinstance(items, list):
        raise TemplateError(f"join: expected a list, got {show(items)}")
    return separator.join(map(show, items))


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if value is None:
            return ""
        if isinstance(value, dict):
            value = value.get(str(key))
            value = "" if value is None else value
        elif isinstance(value, (list, str)) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise TemplateError(f"index out of range: {key}")
            value = value[key]
        else:
            raise TemplateError(f"can't index {show(value)} with {show(key)}")
    return value


def _length(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, (list, dict)):
        return len(value)
    return len(str(value).encode())


def _title(text: object) -> str:
    import re

    return re.sub(r"\b[a-z]", lambda match: match[0].upper(), str(text))


def _urlquery(value: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(show(value))


def _printf(form: str, *args: object) -> str:
    import re

    given = iter(args)

    def one(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        value = next(given, "%!" + verb + "(MISSING)")
        match verb:
            case "q":
                return f"%{flags}s" % json.dumps(show(value), ensure_ascii=False)
            case "d" | "x" | "X" | "o" | "f" | "e" | "g" | "c":
                return f"%{flags}{verb}" % value
            case "T":
                raise TemplateError("printf: the verb %T is not supported")
            case _:
                return f"%{flags.replace('+', '')}s" % show(value, named="+" in flags)

    return re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([svqtTdxXofegc%])", one, form)


def _print(*args: object) -> str:
    """Go's Sprint: a space between two that are both no strings."""
    out = ""
    for before, each in zip((None, *args), args, strict=False):
        gap = out and not isinstance(before, str) and not isinstance(each, str)
        out += (" " if gap else "") + show(each)
    return out


def _compare(check: Callable[[object, object], bool]) -> Function:
    def function(left: object, *right: object) -> bool:
        return any(check(left, each) for each in right)

    return function


def _and(*args: object) -> object:
    return next((each for each in args if not truth(each)), args[-1])


def _or(*args: object) -> object:
    return next((each for each in args if truth(each)), args[-1])


_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})
_SCRIPT = str.maketrans({
    "\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026",
    "=": "\\u003D",
})  # fmt: skip


def _slice(value: object, first: int = 0, last: int | None = None) -> object:
    if not isinstance(value, (str, list)):
        raise TemplateError(f"can't slice {show(value)}")
    end = len(value) if last is None else last
    if not 0 <= first <= end <= len(value):
        raise TemplateError(f"slice out of range: {first}:{end}")
    return value[first:end]


FUNCTIONS: Mapping[str, Function] = {
    "json": to_json,
    "join": _join,
    "split": lambda text, separator: str(text).split(separator),
    "title": _title,
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "truncate": lambda text, length: str(text)[:length],
    "index": _index,
    "len": _length,
    "print": _print,
    "println": lambda *args: " ".join(map(show, args)) + "\n",
    "printf": _printf,
    "html": lambda value: show(value).translate(_HTML),
    "js": lambda value: show(value).translate(_SCRIPT),
    "urlquery": _urlquery,
    "slice": _slice,
    "and": _and,
    "or": _or,
    "not": lambda value: not truth(value),
    "eq": _compare(lambda a, b: a == b),
    "ne": _compare(lambda a, b: a != b),
    "lt": _compare(lambda a, b: a < b),  # type: ignore[operator]  # TypeError is reported
    "le": _compare(lambda a, b: a <= b),  # type: ignore[operator]
    "gt": _compare(lambda a, b: a > b),  # type: ignore[operator]
    "ge": _compare(lambda a, b: a >= b),  # type: ignore[operator]
}
