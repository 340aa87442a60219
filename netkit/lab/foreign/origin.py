"""A document of another tool: its values, where they stand, and which of them were used.  Pure.

YAML by the core schema of version 1.2 as these tools read it: `22:22` and `on` are text.  What is
not used is found at the end (`unused`), so that no key is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from netkit.lab.document import LabFile, composed
from netkit.lab.schema import Path, dotted

_INTEGER = re.compile(r"[-+]?\d{1,18}")
_WORDS = {"true": True, "True": True, "TRUE": True,
          "false": False, "False": False, "FALSE": False,
          "": None, "~": None, "null": None, "Null": None, "NULL": None}  # fmt: skip
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"


def why_not(at: Path, reasons: Mapping[str, str]) -> str:
    """The reason why what was not used is not carried over: that of the innermost key."""
    words = [step for step in reversed(at) if isinstance(step, str)]
    if any(word.startswith("x-") for word in words):
        return "an extension has no meaning of its own"
    return next(
        (reasons[word] for word in words if word in reasons), "there is nothing like it here"
    )


class Origin:
    """`value` is the document; `at` is asked for by paths into it."""

    def __init__(self, text: str, file: str) -> None:
        """Raises LabFile if it is no YAML, or beyond a bound of `document`."""
        self.file = file
        self.lines: dict[Path, int] = {}
        self.tags: list[tuple[Path, str]] = []
        self._used: set[Path] = set()
        self._above: set[Path] = set()  # places that something below was used of
        node, _ = composed(text, file)
        self.value = self._value(node, ()) if node is not None else None

    def at(self, *path: str | int) -> Any:
        """The value there; None where there is none."""
        found: Any = self.value
        for step in path:
            if isinstance(found, dict):
                found = found.get(step)
            elif isinstance(found, list) and isinstance(step, int) and step < len(found):
                found = found[step]
            else:
                return None
        return found

    def use(self, *path: str | int) -> Any:
        """The value there, which is dealt with, and all that it holds."""
        self._used.add(path)
        self._touch(path[:-1])
        return self.at(*path)

    def mapping(self, *path: str | int) -> dict[str, Any]:
        """The mapping there; {} where there is none.  What is in it is still to be used.

        Raises LabFile for another value.
        """
        found = self.at(*path)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise LabFile(self.message(path, "must be a mapping"))
        self._touch(path)
        return found

    def items(self, *path: str | int) -> list[Any]:
        """The list there, as `mapping`."""
        found = self.at(*path)
        if found is None:
            return []
        if not isinstance(found, list):
            raise LabFile(self.message(path, "must be a list"))
        self._touch(path)
        return found

    def _touch(self, path: Path) -> None:
        for n in range(len(path) + 1):
            self._above.add(path[:n])

    def shown(self, path: Path) -> str:
        """FILE:LINE: PLACE = VALUE."""
        value = self.at(*path)
        return self.place(path) + ("" if isinstance(value, dict | list) else f" = {value}")

    def message(self, path: Path, why: str) -> str:
        """FILE:LINE: PLACE: WHY."""
        return f"{self.place(path)}: {why}"

    def place(self, path: Path) -> str:
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        where = f"{self.file}:{self.lines.get(known, 1)}"
        return f"{where}: {dotted(path)}" if path else where

    def unused(self) -> Iterator[Path]:
        """The places that were not dealt with, none of them within another."""
        open_: list[Path] = [()]
        while open_:
            at = open_.pop()
            if at in self._used:
                continue
            value = self.at(*at)
            if at not in self._above or not isinstance(value, dict | list | None):
                yield at
                continue
            steps = list(value) if isinstance(value, dict) else range(len(value or ()))
            open_ += [(*at, step) for step in reversed(steps)]

    def _value(self, node: yaml.Node, at: Path) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if node.tag.startswith("!"):
            self.tags.append((at, node.tag))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*at, n)) for n, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        text = str(node.value)
        if node.style or (node.tag == _TEXT and text in _WORDS):
            return text
        if text in _WORDS:
            return _WORDS[text]
        return int(text) if _INTEGER.fullmatch(text) else text

    def _mapping(self, node: yaml.MappingNode, at: Path) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, inner in node.value:
            if key.tag == _MERGE:
                each = inner.value if isinstance(inner, yaml.SequenceNode) else [inner]
                for one in reversed(each):
                    if not isinstance(one, yaml.MappingNode):
                        raise LabFile(self.message(at, "<< takes mappings only"))
                    out |= self._mapping(one, at)
        for key, inner in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise LabFile(self.message(at, "a key must be text"))
            path = (*at, str(key.value))
            self.lines[path] = key.start_mark.line + 1
            out[str(key.value)] = self._value(inner, path)
        return out
