"""From what we want and what there is to what must be done.  Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netkit.errors import Conflict
from netkit.model import Key, Resource, State, changed


@dataclass(frozen=True, slots=True)
class Op:
    """One step.  before=None creates, after=None deletes, both update."""

    before: Resource | None
    after: Resource | None

    @property
    def subject(self) -> Resource:
        r = self.after or self.before
        assert r is not None
        return r

    def inverse(self) -> Op:
        return Op(self.after, self.before)

    def __str__(self) -> str:
        sign = "+" if self.before is None else "-" if self.after is None else "~"
        return f"{sign} {'/'.join(self.subject.key)}"


Plan = tuple[Op, ...]


def diff(desired: State, actual: State, mine: Callable[[Resource], bool]) -> Plan:
    """The ordered steps from `actual` to `desired`, deleting only what is mine.

    New things come up before old things go down, so that a change never leaves
    a gap, except that a thing which cannot be changed in place must go first.
    Raises Conflict before anything is done, for what exists, differs and is not mine.
    """
    delta = {k: changed(want, actual[k]) for k, want in desired.items() if k in actual}
    rebuild = _dependents(
        {k for k, names in delta.items() if names - desired[k].mutable}, actual
    )
    rebuild = {k for k in rebuild if not actual[k].shared}
    for k in sorted(desired.keys() - actual.keys()):
        if desired[k].owner is None and not desired[k].shared:
            raise Conflict(f"{'/'.join(k)} must exist, and is not ours to make")
    for k in sorted(rebuild | {k for k, names in delta.items() if names}):
        if not actual[k].shared and not mine(actual[k]):
            raise Conflict(f"{'/'.join(k)} exists, differs and is not ours: {actual[k]}")

    gone = {
        k for k, r in actual.items() if k not in desired and not r.shared and mine(r)
    } - rebuild
    first = [Op(actual[k], None) for k in reversed(_ordered(actual)) if k in rebuild]
    up = [
        Op(None if k not in actual or k in rebuild else actual[k], desired[k])
        for k in _ordered(desired)
        if k not in actual or k in rebuild or delta[k]
    ]
    down = [Op(actual[k], None) for k in reversed(_ordered(actual)) if k in gone]
    return (*first, *up, *down)


def _ordered(s: State) -> list[Key]:
    """Keys with every need before its needer; ties by phase, then key, so plans are stable."""
    waits = {k: {n for n in r.needs if n in s and n != k} for k, r in s.items()}
    needers: dict[Key, list[Key]] = {}
    for k, needs in waits.items():
        for n in needs:
            needers.setdefault(n, []).append(k)
    ready = [(s[k].phase, k) for k, needs in waits.items() if not needs]
    heapq.heapify(ready)
    out: list[Key] = []
    while ready:
        _, k = heapq.heappop(ready)
        out.append(k)
        for needer in needers.get(k, ()):
            waits[needer].discard(k)
            if not waits[needer]:
                heapq.heappush(ready, (s[needer].phase, needer))
    if len(out) != len(s):
        stuck = sorted("/".join(k) for k in s.keys() - set(out))
        raise Conflict(f"need each other in a circle: {', '.join(stuck)}")
    return out


def _dependents(keys: Iterable[Key], s: State) -> set[Key]:
    """`keys` and everything in `s` that stands on them, however far up."""
    needers: dict[Key, list[Key]] = {}
    for k, r in s.items():
        for n in r.needs:
            needers.setdefault(n, []).append(k)
    found = set(keys)
    todo = list(found)
    while todo:
        for k in needers.get(todo.pop(), ()):
            if k not in found:
                found.add(k)
                todo.append(k)
    return found
