"""`h[1-50]` and `count:` of lab.yml: one entry that stands for several.  Pure.

    h[1-50]          h1, h2 ... h50         n[08-10]    n08, n09, n10
    r[1-2]c[1-3]     r1c1, r1c2, r1c3, r2c1 ...         s[1,3-4]    s1, s3, s4

Words within an entry of several names go in step with them: where their ranges, each or together,
stand for as many texts, each name gets the one at its own place.  `\\[1-3]` is not a range.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from netkit.lab import document
from netkit.lab.schema import Path, Problem

MAX_MEMBERS = 1000  # names that one range or count stands for; hosts of a lab
HOST = re.compile(r"[a-z][a-z0-9_]{0,11}")
CONTAINER = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{1,62}")  # it is a host name, too: RFC 1123
SEGMENT = re.compile(r"[a-z][a-z0-9-]{0,14}")
_RANGE = re.compile(r"(?<!\\)\[(\d+(?:[-,]\d+)+)\]")
_PLAIN = re.compile(r"\\(\[\d+(?:[-,]\d+)+\])")
_WORD = re.compile(r"\S*\[\S*")
_DIGITS = 9  # of a number in a range

Place = tuple[int, int]  # at which place an entry stands, of how many


class _TooMany(Exception):
    """The expanded document has more than MAX_VALUES values."""


def has_range(text: str) -> bool:
    return _RANGE.search(text) is not None


def spread(text: str) -> list[str]:
    """The texts that one with ranges stands for; of several ranges the last goes fastest.

    A text without a range stands for itself.  ValueError for a range that is none, or for more than
    MAX_MEMBERS texts.
    """
    parts = _RANGE.split(text)  # text, range, text, range, text
    ranges = [list(_bounds(part)) for part in parts[1::2]]
    size = prod(sum(high - low + 1 for low, high, _ in each) for each in ranges)
    if size > MAX_MEMBERS:
        raise ValueError(f"{text!r} stands for {size} names: {MAX_MEMBERS} at most")
    numbers = [
        [f"{n:0{width}}" for low, high, width in each for n in range(low, high + 1)]
        for each in ranges
    ]
    return [
        "".join(a + b for a, b in zip(parts[0::2], (*chosen, ""), strict=True))
        for chosen in product(*numbers)
    ]


def _bounds(text: str) -> Iterator[tuple[int, int, int]]:
    """First, last, digits of each part of `1,3-4`."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        last = last or first
        if not (first.isdigit() and last.isdigit() and max(len(first), len(last)) <= _DIGITS):
            raise ValueError(f"[{text}] is no range: write [1-50] or [1,3-4]")
        if int(first) > int(last):
            raise ValueError(f"[{text}] runs backwards: write [{last}-{first}]")
        yield int(first), int(last), len(first) if first.startswith("0") else 0


def expanded(doc: Any, lines: dict[Path, int]) -> tuple[Any, list[Problem], dict[Path, Path]]:
    """A document that fits the schema, with each entry of its own; problems; and for each path
    of what was repeated the path it was written at.

    `lines` gets the paths of new entries, with the lines they come from.
    """
    work = _Expansion(lines)
    try:
        return work.lab(doc), work.problems, work.origin
    except _TooMany:
        many = f"ranges make more than {document.MAX_VALUES} values of it: name fewer"
        return doc, [(("hosts",), many)], {}


class _Expansion:
    def __init__(self, lines: dict[Path, int]) -> None:
        self.lines = lines
        self.problems: list[Problem] = []
        self.origin: dict[Path, Path] = {}
        self._values = 0

    def lab(self, doc: Any) -> Any:
        out = dict(doc)
        if "underlay" in doc:
            out["underlay"] = self._segments(doc["underlay"])
        for key in ("cluster", "ovn"):
            if key in doc:
                out[key] = self._listed(doc[key], (key,))
        out["hosts"] = self._hosts(doc["hosts"])
        return out

    def _segments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in given.items():
            at: Path = ("underlay", name)
            for each in self._names(name, None, 1, SEGMENT, at):
                self._add(out, each, value, (), at, ("underlay", each))
        return out

    def _listed(self, given: Sequence[str], at: Path) -> list[str]:
        out: list[str] = []
        for number, text in enumerate(given):
            out += self._spread(text, (*at, number))
        return out

    def _hosts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in given.items():
            at: Path = ("hosts", name)
            repeated = has_range(name) or "count" in (value or {})
            names = self._names(name, (value or {}).get("count"), 1, HOST, at)
            for i, each in enumerate(names):
                place = (i, len(names))
                self._host(out, each, value, place if repeated else None, at)
            if len(out) > MAX_MEMBERS:
                self.problems.append((at, f"a lab has {MAX_MEMBERS} hosts at most: name fewer"))
                return out
        return out

    def _host(
        self, out: dict[str, Any], name: str, value: Any, place: Place | None, at: Path
    ) -> None:
        new: Path = ("hosts", name)
        bare = {k: v for k, v in (value or {}).items() if k not in {"count", "containers"}}
        self._fixed(bare, place, at)
        if not self._add(out, name, bare, (place,) if place else (), at, new):
            return
        containers: dict[str, Any] = {}
        for key, inner in ((value or {}).get("containers") or {}).items():
            self._containers(containers, key, inner, place, (at, new))
        if "containers" in (value or {}):
            out[name]["containers"] = containers

    def _fixed(self, host: Mapping[str, Any], place: Place | None, at: Path) -> None:
        for name, interface in host.get("interfaces", {}).items():
            if place and place[1] > 1 and place[0] == 0 and "mac" in interface:
                why = "would be that of several hosts: leave it out, each gets one of its own"
                self.problems.append(((*at, "interfaces", name, "mac"), why))

    def _containers(
        self, out: dict[str, Any], key: str, value: Any, place: Place | None, ats: tuple[Path, Path]
    ) -> None:
        at, new = (*ats[0], "containers", key), (*ats[1], "containers")
        index, hosts = place or (0, 1)
        count = (value or {}).get("count")
        repeated = has_range(key) or count is not None
        if not repeated and hosts > 1:
            if index == 0:
                why = (f"there would be one on each of {hosts} hosts: write {key}[1-{hosts}], or"
                       " count: 1")  # fmt: skip
                self.problems.append((at, why))
            return
        names = self._names(key, count, hosts, CONTAINER, at, again=index > 0)
        each, rest = divmod(len(names), hosts)
        if rest:
            if index == 0:
                why = f"these are {len(names)} containers for {hosts} hosts: give as many for each"
                self.problems.append((at, why))
            return
        bare = {k: v for k, v in (value or {}).items() if k != "count"}
        for n in range(index * each, (index + 1) * each):
            places = ((n, len(names)), *((place,) if place else ())) if repeated else ()
            self._add(out, names[n], bare, places, at, (*new, names[n]))

    def _names(
        self, name: str, count: int | None, times: int, pattern: re.Pattern[str], at: Path,
        again: bool = False,
    ) -> list[str]:  # fmt: skip
        """Those an entry stands for; with `again` their problems were reported already."""
        before = len(self.problems)
        names: list[str] = []
        if count is not None and has_range(name):
            self.problems.append((at, "a range says how many there are: leave out count"))
        elif count is not None and count * times > MAX_MEMBERS:
            why = f"stands for {count * times} names: {MAX_MEMBERS} at most"
            self.problems.append((at, why))
        elif count is not None:
            names = [f"{name}{n}" for n in range(1, count * times + 1)]
        else:
            names = self._spread(name, at)
        if wrong := [n for n in names if not pattern.fullmatch(n)]:
            why = f"the name {wrong[0]!r} does not match {pattern.pattern}"
            self.problems.append((at, why))
            names = []
        if again:
            del self.problems[before:]
        return names

    def _spread(self, text: str, at: Path) -> list[str]:
        try:
            return spread(text)
        except ValueError as bad:
            self.problems.append((at, str(bad)))
            return []

    def _add(
        self, out: dict[str, Any], name: str, value: Any, places: tuple[Place, ...], at: Path,
        new: Path,
    ) -> bool:  # fmt: skip
        if name in out:
            first = self.lines.get(new, 1)
            self.problems.append((at, f"makes {name!r}, which line {first} makes already"))
            return False
        out[name] = self._stepped(value, places, at, new)
        return True

    def _stepped(self, value: Any, places: tuple[Place, ...], at: Path, new: Path) -> Any:
        """The value as it is at these places, of which the first is its own."""
        if new != at:
            self.origin[new] = at
            if at in self.lines:
                self.lines.setdefault(new, self.lines[at])
            self._values += 1
            if self._values > document.MAX_VALUES:
                raise _TooMany
        if isinstance(value, Mapping):
            out = {}
            for key, inner in value.items():
                name = self._text(key, places, (*at, key))
                out[name] = self._stepped(inner, places, (*at, key), (*new, name))
            return out
        if isinstance(value, list):
            return [
                self._stepped(v, places, (*at, n), (*new, n)) for n, v in enumerate(value)
            ]  # fmt: skip
        return self._text(value, places, at) if isinstance(value, str) else value

    def _text(self, text: str, places: tuple[Place, ...], at: Path) -> str:
        if not places or "[" not in text:
            return text
        return _WORD.sub(lambda word: self._word(word[0], places, at), text)

    def _word(self, text: str, places: tuple[Place, ...], at: Path) -> str:
        sizes = {total: index for index, total in reversed(places)}
        parts = _RANGE.split(text)
        each = [self._spread(f"[{part}]", at) for part in parts[1::2]]
        if each and len({len(found) for found in each}) == 1 and len(each[0]) in sizes:
            chosen = [found[sizes[len(found)]] for found in each]
            text = "".join(a + b for a, b in zip(parts[0::2], (*chosen, ""), strict=True))
        elif all(each) and each:
            text = self._product(text, sizes, at)
        return _PLAIN.sub(r"\1", text)

    def _product(self, text: str, sizes: Mapping[int, int], at: Path) -> str:
        """Ranges that are not each in step, but are so together."""
        found = self._spread(text, at)
        if found and len(found) not in sizes:
            names = " or ".join(str(size) for size in sorted(sizes))
            why = (f"{text!r} stands for {len(found)} texts, and {names} names go in step with it:"
                   " give as many, or write \\[ where no range is meant")  # fmt: skip
            self.problems.append((at, why))
            return text
        return found[sizes[len(found)]] if found else text
