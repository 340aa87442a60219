"""YAML within bounds: the document, and the line of each of its values.  Pure.

Used for lab.yml and for files of other tools, which are untrusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import yaml

from netkit.errors import InvalidSpec
from netkit.lab import schema

LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_BYTES = 4 << 20  # of a file
MAX_DEPTH = 30  # levels; an alias within what it stands for would have no end
MAX_VALUES = 100_000  # with aliases of aliases a page of text stands for any number


class LabFile(InvalidSpec):
    """A file is wrong: a line for each problem, with its place in the file."""


class _TooLarge(Exception):
    """LINE: what of the document is beyond its bound."""


def decoded(data: bytes, file: str) -> str:
    """The text of a file that was read to at most one byte more than MAX_BYTES.  LabFile."""
    if len(data) > MAX_BYTES:
        raise LabFile(f"{file}: has more than {MAX_BYTES >> 20} MiB: no lab needs as much")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LabFile(f"{file}:{line}: is not text in UTF-8: save it as such") from None


def composed(text: str, file: str) -> tuple[yaml.Node | None, dict[schema.Path, int]]:
    """The nodes of a document within its bounds, and the line of each path in it.

    `file` is named in messages.  Raises LabFile.
    """
    with _failures(file):
        node = yaml.compose(text, Loader=LOADER)
    lines: dict[schema.Path, int] = {}
    try:
        twice = list(_walk(node, (), lines)) if node is not None else []
    except _TooLarge as error:
        raise LabFile(f"{file}:{error}") from None
    if twice:
        raise LabFile("\n".join(f"{file}:{line}: {why}" for line, why in twice))
    return node, lines


def loaded(text: str, file: str) -> tuple[object, dict[schema.Path, int]]:
    """The values of a document by the rules of YAML 1.1, and the line of each path in it."""
    _, lines = composed(text, file)
    with _failures(file):
        return yaml.load(text, Loader=LOADER), lines


@contextmanager
def _failures(file: str) -> Iterator[None]:
    """Turn errors of the YAML library into LabFile."""
    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error)
        raise LabFile(f"{file}{where}: not YAML: {why}") from None
    except ValueError as error:  # 2020-99-99: YAML 1.1 has dates
        why = f"a value is none of the kind it looks like ({error})"
        raise LabFile(f"{file}: {why}: put it in quotes") from None


def message(file: str, lines: Mapping[schema.Path, int], at: schema.Path, why: str) -> str:
    """FILE:LINE: PLACE: WHY."""
    known = at
    while known not in lines and known:
        known = known[:-1]
    place = schema.dotted(at)
    return f"{file}:{lines.get(known, 1)}: {place + ': ' if place else ''}{why}"


def _walk(
    node: yaml.Node, at: schema.Path, lines: dict[schema.Path, int]
) -> Iterator[tuple[int, str]]:
    """Note every line; report keys that are given twice, of which YAML would drop one."""
    lines.setdefault(at, node.start_mark.line + 1)
    if len(at) > MAX_DEPTH:
        raise _TooLarge(f"{lines[at]}: nested more than {MAX_DEPTH} levels deep")
    if len(lines) > MAX_VALUES:
        raise _TooLarge(f"{lines[at]}: more than {MAX_VALUES} values, aliases included")
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _walk(item, (*at, number), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, inner in node.value:
            path = (*at, str(key.value))
            line = key.start_mark.line + 1
            if path in lines:
                yield line, f"{schema.dotted(path)} is given twice, first in line {lines[path]}"
            lines[path] = line
            yield from _walk(inner, path, lines)
