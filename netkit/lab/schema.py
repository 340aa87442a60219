"""Validate a document against our JSON schema: every problem with its path, and what to do.

`jsonschema` decides what is wrong; here it is worded for the author of a YAML file, in the order
of the document, and two things are added that YAML has and JSON has not: keys that are no text,
and 1.0, which JSON Schema takes for an integer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from netkit.suggestion import nearest

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

Path = tuple[str | int, ...]
Problem = tuple[Path, str]

NAMES = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a number",
         "boolean": "true or false", "null": "nothing"}  # fmt: skip
MAX_MESSAGE = 200  # characters of a message of jsonschema's, which may quote the whole document


@cache
def lab_schema() -> Mapping[str, Any]:
    text = files("netkit.lab").joinpath("schema.json").read_text()
    schema: Mapping[str, Any] = json.loads(text)
    return schema


def problems(value: object, schema: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with `value`, in the order of the document."""
    found = list(_keys_without_text(value, ()))
    errors = list(_validator(schema).iter_errors(value))
    mistyped = {tuple(e.absolute_path) for e in errors if e.validator == "type"}
    for error in errors:
        at = tuple(error.absolute_path)
        # A value of the wrong type breaks other keywords of its place, too: report it once.
        if error.validator == "type" or at not in mistyped or _is_name(error):
            found += _worded(error, at)
    return sorted(dict.fromkeys(found), key=lambda problem: _position(value, problem[0]))


def _validator(schema: Mapping[str, Any]) -> Validator:
    import jsonschema  # 0.15 s of CPU time: for commands that read a lab.yml only

    checker = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=checker)
    return strict(schema)


def _keys_without_text(value: object, at: Path) -> Iterator[Problem]:
    """Find keys that are no text: a JSON schema cannot refuse them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _keys_without_text(inner, (*at, key))
            else:
                yield at, f"the key {key!r} is no text: put it in quotes"
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _keys_without_text(inner, (*at, number))


def _is_name(error: ValidationError) -> bool:
    """Is it about the name of a key, not about a value?"""
    return "propertyNames" in error.relative_schema_path


def _worded(error: ValidationError, at: Path) -> Iterator[Problem]:
    if _is_name(error):
        yield (*at, error.instance), f"the name {_mismatch(error)}"
    elif error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        for key in error.instance:
            if isinstance(key, str) and key not in known:
                yield (*at, key), _unknown(key, known)
    elif error.validator == "required":  # an error for each missing key, which is not named
        for key in error.validator_value:
            if key not in error.instance:
                yield at, f"lacks the key {key!r}"
    else:
        words = WORDS.get(error.validator)
        yield at, words(error) if words else error.message[:MAX_MESSAGE]


def _unknown(key: str, known: Mapping[str, object]) -> str:
    close = nearest(key, known)
    hint = f"did you mean {close!r}? " if close else ""
    return f"unknown key {key!r}; {hint}(known: {', '.join(sorted(known))})"


def _type(error: ValidationError) -> str:
    kinds = error.validator_value
    kinds = [kinds] if isinstance(kinds, str) else kinds
    wanted = " or ".join(NAMES[kind] for kind in kinds if kind != "null")
    shown = "nothing" if error.instance is None else repr(error.instance)[:60]
    return f"must be {wanted}, not {shown}"


def _range(error: ValidationError) -> str:
    low, high = error.schema.get("minimum", "any"), error.schema.get("maximum", "any")
    return f"must be between {low} and {high}, not {error.instance}"


def _mismatch(error: ValidationError) -> str:
    return f"{error.instance!r} does not match {error.validator_value}"


WORDS: Mapping[str, Callable[[ValidationError], str]] = {
    "type": _type,
    "pattern": _mismatch,
    "minimum": _range,
    "maximum": _range,
    "minLength": lambda error: "must not be empty",
    "minProperties": lambda error: "must not be empty",
}


def _position(value: Any, at: Path) -> list[int]:
    """Where a path is in the document: the number of each key within its mapping."""
    out = []
    for step in at:
        if isinstance(value, dict):
            out.append(list(value).index(step) if step in value else len(value))
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            out.append(step)
            value = value[step]
    return out


def dotted(path: Path) -> str:
    """hosts.h1.routes[0]"""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
    return text.removeprefix(".")
