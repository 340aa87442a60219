"""Values as Go has them, and as it prints them: %v, and JSON.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from netkit.cli.human import go_time
from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

NO_VALUE, NIL_TEXT = "<no value>", "<nil>"
SECOND = 10**9  # nanoseconds


class Row:
    """One line of a listing: values that are computed when asked for."""

    __slots__ = ()

    def names(self) -> Sequence[str]:
        raise NotImplementedError

    def field(self, name: str, args: Sequence[object]) -> object:
        """KeyError when there is no such field."""
        raise NotImplementedError


class Nil:
    """A pointer to nothing."""

    def __bool__(self) -> bool:
        return False


NIL = Nil()


class NilList(list[object]):
    """A slice that was never made: `[]`, in JSON null."""


class NilMap(dict[str, object]):
    """A map that was never made: `map[]`, in JSON null."""


class Duration(int):
    """Nanoseconds, shown as 1m30s."""


class Time(str):
    """RFC 3339, shown as Go's time.Time."""

    __slots__ = ()


class Field(Value):
    """A field of the type `of`: `key` in JSON, "-" is left out; with `omit` also what is empty."""

    __slots__ = ("embedded", "key", "name", "of", "omit")

    def __init__(self, name: str, key: str, omit: bool, of: str, embedded: bool) -> None:
        self.name: Final = name
        self.key: Final = key
        self.omit: Final = omit
        self.of: Final = of
        self.embedded: Final = embedded


class Struct(Value):
    """A structure with all its fields.

    There are no pointers but NIL: what one points to stands for it.  Go prints the address of one
    within a structure, and takes one to 0 or false for true; netkit prints the value.  `by_key`:
    JSON has its fields sorted.
    """

    __slots__ = ("by_key", "fields", "kind", "values")

    def __init__(
        self, kind: str, fields: tuple[Field, ...], values: tuple[object, ...], by_key: bool
    ) -> None:
        self.kind: Final = kind
        self.fields: Final = fields
        self.values: Final = values
        self.by_key: Final = by_key

    def get(self, name: str) -> object:
        """The field `name`, also one of an embedded structure; KeyError if there is none."""
        for field, value in zip(self.fields, self.values, strict=True):
            if field.name == name:
                return value
        for field, value in zip(self.fields, self.values, strict=True):
            if field.embedded and isinstance(value, Struct):
                try:
                    return value.get(name)
                except KeyError:
                    continue
        raise KeyError(name)

    def json(self) -> Iterator[tuple[str, object]]:
        """Keys and values in the order in which Go marshals them."""
        pairs = [pair for field, value in zip(self.fields, self.values, strict=True)
                 for pair in _marshalled(field, value)]  # fmt: skip
        yield from sorted(pairs, key=lambda pair: pair[0]) if self.by_key else pairs


def _marshalled(field: Field, value: object) -> Iterator[tuple[str, object]]:
    if field.embedded and isinstance(value, Struct):
        yield from value.json()
    elif field.key != "-" and not (field.omit and _empty(field, value)):
        yield field.key, value


def _empty(field: Field, value: object) -> bool:
    """Go's omitempty: never true of a structure or a time, nor of a pointer to something."""
    if field.of.startswith("*"):
        return value is NIL
    return not truth(value)


def truth(value: object) -> bool:
    return isinstance(value, (Struct, Time)) or bool(value)


def show(value: object, named: bool = False) -> str:
    """As Go's %v, or %+v if `named`."""
    return NO_VALUE if value is None else _shown(value, named)


def _shown(value: object, named: bool) -> str:
    match value:
        case None | Nil():
            return NIL_TEXT
        case bool():
            return "true" if value else "false"
        case Duration():
            return duration(value)
        case Time():
            return go_time(value)
        case float():
            return f"{value:.0f}" if value.is_integer() and abs(value) < 1e21 else repr(value)
        case list():
            return "[" + " ".join(_shown(each, named) for each in value) + "]"
        case dict():
            pairs = (f"{k}:{_shown(v, named)}" for k, v in sorted(value.items()))
            return "map[" + " ".join(pairs) + "]"
        case Struct(kind="Ulimit"):
            name, hard, soft = value.values
            return f"{name}={soft}:{hard}"
        case Struct():
            return "{" + " ".join(
                f"{field.name}:{_shown(each, named)}" if named else _shown(each, named)
                for field, each in zip(value.fields, value.values, strict=True)
            ) + "}"  # fmt: skip
        case Row():
            return _shown(_fields(value), named)
    return str(value)


def _fields(row: Row) -> dict[str, object]:
    return {name: row.field(name, []) for name in sorted(row.names())}


def duration(nanoseconds: int) -> str:
    """As Go prints a time.Duration: 1h0m0s, 1.5s, 20ms, 0s."""
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left == 0:
        return "0s"
    if left < SECOND:
        unit, size = next(
            (unit, size) for unit, size in (("ms", 10**6), ("µs", 10**3), ("ns", 1)) if left >= size
        )
        return f"{sign}{_decimal(left, size)}{unit}"
    minutes, rest = divmod(left, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    out = f"{hours}h" if hours else ""
    out += f"{minutes}m" if hours or minutes else ""
    return f"{sign}{out}{_decimal(rest, SECOND)}s"


def _decimal(amount: int, size: int) -> str:
    """amount / size without trailing zeros; `size` is a power of ten."""
    whole, part = divmod(amount, size)
    digits = f"{part:0{len(str(size)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def to_json(value: object) -> str:
    """As Go's encoder without HTML escapes; where rows are, as json.Marshal, with them."""
    if _has_rows(value):
        return marshalled(value)
    return _separated(json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False))


def _has_rows(value: object) -> bool:
    match value:
        case Row():
            return True
        case list():
            return any(map(_has_rows, value))
        case Struct():
            return any(map(_has_rows, value.values))
    return False


def marshalled(value: object, indent: int | None = None) -> str:
    """As Go's json.Marshal: with `<`, `>` and `&` escaped, which ends no script in a page."""
    marks: tuple[str, str] = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(_plain(value), separators=marks, indent=indent, ensure_ascii=False)
    return _separated(_escaped(text))


def _escaped(text: str) -> str:
    for sign in "<>&":  # they can only be within strings
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _separated(text: str) -> str:
    """Line separators, which JavaScript cannot have in a string."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: object) -> object:
    match value:
        case Row():
            return {key: _plain(each) for key, each in _fields(value).items()}
        case NilList() | NilMap() | Nil():
            return None
        case Struct():
            return {key: _plain(each) for key, each in value.json()}
        case Mapping():
            return {key: _plain(each) for key, each in sorted(value.items())}
        case list():
            return [_plain(each) for each in value]
        case Time():
            import re

            return re.sub(r"\.?0+(?=Z$)", "", value) if "." in value else value
    return value
