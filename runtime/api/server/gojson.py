"""Decode request bodies into structs as Go's encoding/json does.  Pure.

Go matches keys without regard to case, takes null as the zero value, ignores unknown keys;
Docker's StrSlice fields accept a bare string for a list of one.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from netkit.errors import InvalidSpec
from runtime import untrusted
from runtime.numbers import LARGEST

T = TypeVar("T", bound=msgspec.Struct)

_SETS = frozenset({"Volumes", "ExposedPorts"})  # map[string]struct{}
_KINDS = {str: "string", bool: "bool", list: "array"}
_STRING_OR_LIST = frozenset({"Cmd", "Entrypoint", "Shell", "CapAdd", "CapDrop"})


def decode(body: bytes, kind: type[T]) -> T:
    """The body as a `kind`.  InvalidSpec in Docker's words for what is not JSON or mistyped."""
    return convert(parse(body), kind)


def parse(body: bytes) -> dict[str, Any]:
    """The body as a JSON object."""
    if not body.strip():
        raise InvalidSpec("invalid JSON: got EOF while reading request body")
    try:
        value = untrusted.decode(body, "invalid JSON", "")
    except InvalidSpec as error:
        if "trailing characters" in str(error):
            raise InvalidSpec("unexpected content after JSON") from error
        raise
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidSpec(f"invalid JSON: expected an object, got {type(value).__name__}")
    return value


def convert(value: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(_go(value, _shape(kind)), kind)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"invalid JSON: {error}") from error


@cache
def _shape(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _go(value: Any, shape: inspect.Type) -> Any:
    """Normalise `value`, so that strict conversion accepts what Go accepts."""
    match _not_none(shape):
        case inspect.StructType(fields=fields) if isinstance(value, dict):
            return _struct(value, fields)
        case inspect.ListType(item_type=item) if isinstance(value, list):
            return [_zero(item) if v is None else _go(v, item) for v in value]
        case inspect.IntType() if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
            raise InvalidSpec(f"invalid JSON: the number {str(value)[:60]} has over 64 bits")
        case inspect.DictType(value_type=item) if isinstance(value, dict):
            return {k: _zero(item) if v is None else _go(v, item) for k, v in value.items()}
        case _:
            return value


def _struct(value: dict[str, Any], fields: tuple[inspect.Field, ...]) -> dict[str, Any]:
    known = {f.encode_name.lower(): f for f in fields}
    result: dict[str, Any] = {}
    for key, given in value.items():
        field = known.get(key.lower())
        if field is None or given is None:
            continue
        name = field.encode_name
        if name in _STRING_OR_LIST and isinstance(given, str):
            given = [given]  # noqa: PLW2901
        if name in _SETS:
            given = _set(name, given)  # noqa: PLW2901
        if name not in result or key == name:  # an exact key wins over a differently cased one
            result[name] = _go(given, field.type)
    return result


def _set(name: str, given: object) -> object:
    """Go's map to empty structs: what the objects have in them is ignored."""
    if not isinstance(given, dict):
        return given
    for key, value in given.items():
        if value is not None and not isinstance(value, dict):
            kind = _KINDS.get(type(value), "number")
            raise InvalidSpec(
                f"invalid JSON: {name}: {key[:100]!r}: expected an object, got {kind}"
            )
    return {key: {} for key in given}


def _not_none(shape: inspect.Type) -> inspect.Type:
    if isinstance(shape, inspect.UnionType):
        rest = [t for t in shape.types if not isinstance(t, inspect.NoneType)]
        return rest[0] if len(rest) == 1 else shape
    return shape


def _zero(shape: inspect.Type) -> Any:
    """Go's zero value, which null in a list or map decodes to; None for other types."""
    match shape:
        case inspect.StructType() | inspect.DictType():
            return {}
        case inspect.ListType():
            return []
        case inspect.StrType():
            return ""
        case inspect.BoolType():
            return False
        case inspect.IntType() | inspect.FloatType():
            return 0
        case _:
            return None
