"""Divide what follows the flags: words, names and values, JSON lists, or the whole line.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NoReturn

from runtime.dockerfile.errors import SyntaxFault
from runtime.dockerfile.gotext import quoted

BLANKS = re.compile(r"[\t\v\f\r ]+")
# the arguments, and whether they were a JSON list
Read = tuple[list[str], bool]


def nothing(rest: str, escape: str, keyword: str) -> Read:
    return [], False


def _text(rest: str, escape: str, keyword: str) -> Read:
    return ([rest] if rest else []), False


def _words(rest: str, escape: str, keyword: str) -> Read:
    return (BLANKS.split(rest) if rest else []), False


def _command(rest: str, escape: str, keyword: str) -> Read:
    found = _json_list(rest)
    return _text(rest, escape, keyword) if found is None else (found, True)


def _list(rest: str, escape: str, keyword: str) -> Read:
    found = _json_list(rest)
    return _words(rest, escape, keyword) if found is None else (found, True)


def _json_list(rest: str) -> list[str] | None:
    """The strings of a JSON list, what follows it is dropped; None if it is none."""
    if not rest.startswith("["):
        return None
    try:
        found, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(rest)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in found):
        raise SyntaxFault("when using JSON array syntax, arrays must be comprised of strings only")
    # a lone surrogate, "\ud800", is replaced as Go's decoder does
    return [word.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for word in found]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _pairs(rest: str, escape: str, keyword: str) -> Read:
    """Names and values in turn: NAME=VALUE ..., or the older NAME the rest."""
    words = split_quoted(rest, escape)
    if not words:
        return [], False
    if "=" not in words[0]:
        parts = BLANKS.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise SyntaxFault(f"{keyword.upper()} must have two arguments")
        return parts, False
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise SyntaxFault(
                f"Syntax error - can't find = in {quoted(word)}. Must be of the form: name=value"
            )
        found += [name, value]
    return found, False


def _names(rest: str, escape: str, keyword: str) -> Read:
    return split_quoted(rest, escape), False


def split_quoted(text: str, escape: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay, they are resolved later."""
    words: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace():
            if word:
                words.append(word)
            word = ""
            continue
        if char == escape and quote != "'":
            if at == len(text):
                break  # an escape at the very end is dropped
            char += text[at]
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word += char
    return [*words, word] if word else words


def _health(rest: str, escape: str, keyword: str) -> Read:
    kind = re.match(r"\S+", rest)
    if kind is None:
        return [], False
    arguments, is_json = _command(rest[kind.end() :].lstrip(), escape, keyword)
    return [kind[0], *arguments], is_json


READERS: dict[str, Callable[[str, str, str], Read]] = {
    "add": _list,
    "arg": _names,
    "cmd": _command,
    "copy": _list,
    "entrypoint": _command,
    "env": _pairs,
    "expose": _words,
    "from": _words,
    "healthcheck": _health,
    "label": _pairs,
    "maintainer": _text,
    "run": _command,
    "shell": _command,
    "stopsignal": _text,
    "user": _text,
    "volume": _list,
    "workdir": _text,
}
