"""A document against our JSON schema: every problem with its path, and what to do.  Pure.

Understands the keywords that schema.json uses, and refuses a schema with others, so that none
is passed over.  A test holds it to the verdicts of the jsonschema package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from netkit.nearest import nearest

Path = tuple[str | int, ...]
Problem = tuple[Path, str]

KINDS: Mapping[str, type] = {
    "object": dict, "array": list, "string": str, "integer": int, "boolean": bool,
    "null": type(None),
}  # fmt: skip
NAMES = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a number",
         "boolean": "true or false", "null": "nothing"}  # fmt: skip
SAYING = {"$schema", "title", "description"}
CHECKED = {
    "type", "properties", "required", "additionalProperties", "propertyNames", "items", "pattern",
    "minimum", "maximum", "minLength", "minProperties",
}  # fmt: skip


@cache
def lab_schema() -> Mapping[str, Any]:
    text = files("netkit.lab").joinpath("schema.json").read_text()
    schema: Mapping[str, Any] = json.loads(text)
    return schema


def problems(value: object, schema: Mapping[str, Any], at: Path = ()) -> Iterator[Problem]:
    """Everything that is wrong with `value`, in the order of the document."""
    if unknown := schema.keys() - SAYING - CHECKED:
        raise ValueError(f"schema at {at}: keywords not understood: {sorted(unknown)}")
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        wanted = " or ".join(NAMES[kind] for kind in kinds if kind != "null")
        yield at, f"must be {wanted}, not {_shown(value)}"
        return
    match value:
        case dict():
            yield from _mapping(value, schema, at)
        case list():
            for number, item in enumerate(value):
                yield from problems(item, schema.get("items", {}), (*at, number))
        case str():
            yield from _text(value, schema, at)
        case int():
            low, high = schema.get("minimum", value), schema.get("maximum", value)
            if not low <= value <= high:
                yield at, f"must be between {low} and {high}, not {value}"


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):  # which is an int to Python
        return kind == "boolean"
    return isinstance(value, KINDS[kind])


def _mapping(value: dict[Any, Any], schema: Mapping[str, Any], at: Path) -> Iterator[Problem]:
    for name in schema.get("required", ()):
        if name not in value:
            yield at, f"lacks the key {name!r}"
    if len(value) < schema.get("minProperties", 0):
        yield at, "must not be empty"
    known, more = schema.get("properties", {}), schema.get("additionalProperties", {})
    pattern = schema.get("propertyNames", {}).get("pattern", "")
    for key, inner in value.items():
        if not isinstance(key, str):
            yield at, f"the key {key!r} is no text: put it in quotes"
        elif key in known:
            yield from problems(inner, known[key], (*at, key))
        elif more is False:
            yield (*at, key), _unknown(key, known)
        elif pattern and not re.search(pattern, key):
            yield (*at, key), f"the name {key!r} does not match {pattern}"
        else:
            yield from problems(inner, more, (*at, key))


def _unknown(key: str, known: Mapping[str, object]) -> str:
    close = nearest(key, known)
    hint = f"did you mean {close!r}? " if close else ""
    return f"unknown key {key!r}; {hint}(known: {', '.join(sorted(known))})"


def _text(value: str, schema: Mapping[str, Any], at: Path) -> Iterator[Problem]:
    if len(value) < schema.get("minLength", 0):
        yield at, "must not be empty"
    pattern = schema.get("pattern", "")
    if pattern and not re.search(pattern, value):
        yield at, f"{value!r} does not match {pattern}"


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:60]


def dotted(path: Path) -> str:
    """hosts.h1.routes[0]"""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".")
