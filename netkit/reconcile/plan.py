"""Plan the steps from the actual to the desired state.  Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netkit.errors import Conflict, Foreign
from netkit.model import Key, Link, Resource, State, changed, deviations, differences, inside

NETKIT = "netkit:"  # begins the owner marks of all engines


@dataclass(frozen=True, slots=True)
class Op:
    """One step.  before=None creates, after=None deletes, both update.

    Creating a shared thing sets it; deleting one does nothing.
    """

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
        return f"{sign} {self.subject}"


    @property
    def differs(self) -> str:
        """In which fields, of a change: "mtu 1500, not 1400"; else ""."""
        return deviations(self.after, self.before) if self.before and self.after else ""


def shown(op: Op) -> str:
    """The step with what it changes, for people: "~ bridge lan (mtu 1500, not 1400)"."""
    return f"{op} ({op.differs})" if op.differs else str(op)


Plan = tuple[Op, ...]
OwnedPredicate = Callable[[Resource], bool]
Needs = Mapping[Key, set[Key]]


def diff(desired: State, actual: State, mine: OwnedPredicate) -> Plan:
    """Return the ordered steps from `actual` to `desired`, deleting only what is ours.

    New things come up before old things go down, so that a change never leaves
    a gap, except that a thing which cannot be changed in place must go first.
    Raises Conflict before anything is done, for what exists, differs and is not mine.
    """
    # A key is in one of `missing`, `differing` (in which fields: `delta`) and `gone` at most.
    desired, actual = _without_parted(desired, actual)
    missing = desired.keys() - actual.keys()
    delta = {k: _delta(want, actual[k], mine) for k, want in desired.items() if k in actual}
    differing = {k for k, names in delta.items() if names}
    gone = {k for k, r in actual.items() if k not in desired and not r.global_setting and mine(r)}
    # Nearly every look of a guard ends here: before the graph of needs is built, which costs more.
    if not missing and not differing and not gone:
        return ()
    wanted = _needs(desired)
    # The kernel reports no `depends_on`, nor always `via`: an observation alone would order too
    # little.
    needs = _merge_needs(_needs(actual), wanted)
    # A field that cannot change in place: the resource is deleted and created again.  All that
    # needs it goes with it, in the kernel too, so it is deleted by steps: an undo then knows what
    # to create again.
    torn = {k for k in differing if delta[k] - desired[k].mutable and not actual[k].global_setting}
    fallen = _dependents(torn, needs) & actual.keys()  # goes down with what is torn down
    rebuild = {k for k in fallen if not actual[k].global_setting}
    # A sysctl always exists and is never deleted, but that of a link is new when the link is.
    reset = {k for k in fallen - rebuild if k in desired}
    _refuse(desired, actual, mine, missing, differing, rebuild)
    down = list(reversed(_ordered(actual, needs)))
    first = [Op(actual[k], None) for k in down if k in rebuild]
    up = [
        Op(None if k in missing or k in rebuild else actual[k], desired[k])
        for k in _ordered(desired, wanted)
        if k in missing or k in rebuild or k in reset or k in differing
    ]
    # Last, not first: what replaces it is there by then.  (What must give way to it is in `torn`.)
    over = gone - rebuild
    last = [Op(actual[k], None) for k in down if k in over]
    return (*first, *up, *last)


def _delta(want: Resource, have: Resource, mine: OwnedPredicate) -> frozenset[str]:
    names = changed(want, have)
    # What is adopted keeps its MTU, address and the like: they are the administrator's.
    if want.accept_existing and names and not mine(have):
        names -= want.mutable | {"owner"}
    return names


def _without_parted(desired: State, actual: State) -> tuple[State, State]:
    """Both without missing pairs whose far ends others have taken (`Peer.left`): they are not made
    anew, and what needs them stays as it is."""
    missing = desired.keys() - actual.keys()
    links = ((k, r) for k in missing if isinstance(r := desired[k], Link))
    parted = {k for k, r in links if r.peer is not None and r.peer.left}
    if not parted:
        return desired, actual
    away = _dependents(parted, _merge_needs(_needs(actual), _needs(desired)))
    kept = ({k: r for k, r in s.items() if k not in away} for s in (desired, actual))
    return next(kept), next(kept)


def _refuse(
    desired: State,
    actual: State,
    mine: OwnedPredicate,
    missing: Iterable[Key],
    differing: set[Key],
    rebuild: set[Key],
) -> None:
    """Raise Conflict for a step on what is not ours."""
    for k in sorted(missing):
        if desired[k].owner is None and not desired[k].global_setting:
            raise Conflict(f"{desired[k]} must exist, and is not netkit's to make")
    for k in sorted(rebuild | differing):
        have = actual[k]
        if have.global_setting or mine(have):
            continue
        if k in differing or k not in desired:
            raise Foreign(_in_the_way(desired.get(k), have))
        if desired[k].owner is None or have.carries_owner:
            raise Conflict(
                f"{have} {_whose(have)}, and needs what must be recreated: remove it first"
            )


def _in_the_way(want: Resource | None, have: Resource) -> str:
    """Describe what exists, whose it is, and why it does not fit."""
    if isinstance(want, Link) and want.kind is None:
        return (
            f"existing interface {have.key[2]}{inside(want.ns)} {_whose(have)}: to require it as "
            "it is, leave out the owner"
        )
    if isinstance(want, Link) and isinstance(have, Link) and want.kind != have.kind:
        what = have.kind or "physical interface"
        return (
            f"existing interface {have.name}{inside(have.ns)} is not a {want.kind} but a {what}, "
            f"and {_whose(have)}"
        )
    how = f" ({differences(want, have)})" if want is not None and not have.carries_owner else ""
    return f"{have} exists{how}, and {_whose(have)}"


def _whose(r: Resource) -> str:
    if r.owner is None or not r.carries_owner:
        return "is not netkit's"
    engine = r.owner.removeprefix(NETKIT).partition(":")[0]
    if r.owner.startswith(NETKIT):
        return f"belongs to another netkit, engine {engine}"
    return f"is not netkit's, it is marked {r.owner!r}"


def _needs(s: State) -> Needs:
    """What each resource needs, as far as this state shows."""
    return {k: {n for n in r.needs if n != k} for k, r in s.items()}


def _merge_needs(one: Needs, two: Needs) -> Needs:
    both = {k: one[k] | two[k] for k in one.keys() & two.keys()}
    return {**one, **two, **both}


def _ordered(s: State, needs: Needs) -> list[Key]:
    """Sort keys, needs before their needers; ties by phase, then key, so plans are stable."""
    # Kahn's algorithm.  A need that is not in `s` is there already, or the kernel reports that it
    # is not.
    waits = {k: {n for n in needs[k] if n in s} for k in s}
    needers: dict[Key, list[Key]] = {}
    for k, bases in waits.items():
        for n in bases:
            needers.setdefault(n, []).append(k)
    ready = [(s[k].order, k) for k, bases in waits.items() if not bases]
    heapq.heapify(ready)
    out: list[Key] = []
    while ready:
        _, k = heapq.heappop(ready)
        out.append(k)
        for needer in needers.get(k, ()):
            waits[needer].discard(k)
            if not waits[needer]:
                heapq.heappush(ready, (s[needer].order, needer))
    if len(out) != len(s):
        stuck = sorted(str(s[k]) for k in s.keys() - set(out))
        raise Conflict(f"need each other, a circular dependency: {', '.join(stuck)}")
    return out


def _dependents(keys: Iterable[Key], needs: Needs) -> set[Key]:
    """Return `keys` and everything that needs them, directly or not."""
    found = set(keys)
    if not found:
        return found
    needers: dict[Key, list[Key]] = {}
    for k, bases in needs.items():
        for n in bases:
            needers.setdefault(n, []).append(k)
    todo = list(found)
    while todo:
        for k in needers.get(todo.pop(), ()):
            if k not in found:
                found.add(k)
                todo.append(k)
    return found
