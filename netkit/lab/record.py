"""The record of what was applied to a lab that is up: what a changed lab.yml is compared with.

A file of JSON lines, on disk before the act itself:

    {"begin": [[PART, DESCRIPTION or null] ...]}    from now on it is this or what it was before
    {"done": [[PART, DESCRIPTION or null] ...]}     it is this; null: it is not there
    {"host": NAME}                                  nothing of this host is left

A line that was cut short by a crash was not yet acted on, and does not count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netkit.lab.parts import Part, Parts, host_of

NAME = "applied"
GARBAGE = 1000  # lines beyond which it is written anew


@dataclass(frozen=True, slots=True)
class Recorded:
    """`applied`: what is there.  `begun`: what was begun beside it and never finished."""

    applied: Parts = field(default_factory=dict)
    begun: Mapping[Part, list[Any]] = field(default_factory=dict)  # None in it: its removal

    def known(self) -> set[Part]:
        """Parts of which there may be something."""
        return {*self.applied, *self.begun}

    def certain(self, part: Part) -> bool:
        return part in self.applied and part not in self.begun

    def possible(self, part: Part) -> list[Any]:
        """What it may be, None for nothing: one value where that is certain."""
        first = [self.applied[part]] if part in self.applied else []
        return [*first, *self.begun.get(part, ())]

    def versions(self) -> list[Parts]:
        """What may be there: as applied, and as it was begun."""
        most = max(map(len, self.begun.values()), default=0)
        out = [self.applied]
        for n in range(most):
            more = {p: v[n] for p, v in self.begun.items() if n < len(v) and v[n] is not None}
            out.append({**self.applied, **more})
        return out


class Record:
    """Of one lab; safe to use from several threads, for one append is one write."""

    def __init__(self, folder: str) -> None:
        self.file = Path(folder) / NAME

    def exists(self) -> bool:
        return self.file.exists()

    def begin(self, changes: Iterable[tuple[Part, Any]]) -> None:
        self._append("begin", [[list(part), value] for part, value in changes])

    def done(self, changes: Iterable[tuple[Part, Any]]) -> None:
        self._append("done", [[list(part), value] for part, value in changes])

    def forget(self, host: str) -> None:
        """Nothing of the host is left."""
        if self.exists():
            self._append("host", host)

    def _append(self, event: str, what: Any) -> None:
        """On disk when this returns."""
        if not what:
            return
        self.file.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._write(self.file, os.O_APPEND, [{event: what}])

    def _write(self, file: Path, more: int, lines: Iterable[Any]) -> None:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | more, 0o644)
        try:
            # The line break before it ends a line that was cut short.
            os.write(fd, b"".join(b"\n" + json.dumps(line).encode() + b"\n" for line in lines))
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self) -> Recorded:
        applied: dict[Part, Any] = {}
        begun: dict[Part, list[Any]] = {}
        for line in self._lines():
            for listed, value in line.get("begin", ()):
                begun.setdefault(tuple(listed), []).append(value)
            for listed, value in line.get("done", ()):
                begun.pop(part := tuple(listed), None)
                applied.pop(part, None)
                if value is not None:
                    applied[part] = value
            if host := line.get("host"):
                applied = {p: v for p, v in applied.items() if host_of(p) != host}
                begun = {p: v for p, v in begun.items() if host_of(p) != host}
        return Recorded(applied, begun)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            raw = self.file.read_bytes()
        except FileNotFoundError:
            return []
        out = []
        for line in raw.split(b"\n"):
            try:
                out.append(json.loads(line))
            except ValueError:
                continue
        return out

    def compact(self) -> None:
        """Write it anew where it has become long."""
        if len(self._lines()) <= GARBAGE:
            return
        found = self.read()
        lines: list[Any] = [{"done": [[list(p), v] for p, v in found.applied.items()]}]
        lines += [{"begin": [[list(p), v] for v in vs]} for p, vs in found.begun.items()]
        new = self.file.with_suffix(".new")
        self._write(new, os.O_TRUNC, lines)
        os.replace(new, self.file)


class Applied:
    """The record of a lab that is brought up: what is there already stays as it was.

    `fresh`: nothing of it is there.  Else, without a record, it is one that an older netkit
    brought up, and stays without.
    """

    def __init__(self, record: Record, wanted: Parts, *, fresh: bool) -> None:
        self._record, self._wanted = record, wanted
        self._kept = fresh or record.exists()
        self._have = record.read()

    def begin(self) -> list[Part]:
        """Note what is to be made; return what stays although it is wanted otherwise."""
        have, wanted = self._have, self._wanted.items()
        if self._kept:
            self._record.begin([(p, v) for p, v in wanted if p not in have.known()])
        return [p for p, v in wanted if any(other != v for other in have.possible(p))]

    def there(self) -> Parts:
        """What is there, or to be made."""
        return {**self._wanted, **self._have.applied}

    def done(self) -> None:
        """All that was begun, now or before, and as it is wanted."""
        if not self._kept:
            return
        have = self._record.read()
        self._record.done(
            [(p, v) for p, v in self._wanted.items()
             if not have.certain(p) and all(other == v for other in have.possible(p))]
        )  # fmt: skip
