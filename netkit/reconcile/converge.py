"""Observe, plan, apply, verify.  Knows no driver by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from netkit.errors import KernelError, NotConverged, Unreachable
from netkit.model import Key, Resource, State, changed
from netkit.reconcile.plan import Op, OwnedPredicate, Plan, diff

UNOBSERVED = (None, "", ())  # a setting that is off was seen

log = logging.getLogger(__name__)


class Kernel(Protocol):
    """All I/O on links, addresses, routes, rules and settings."""

    def observe(self, keys: Iterable[Key]) -> State:
        """Those of `keys` that exist, as they are.  Costs what the keys cost, not the host."""
        ...

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        """Everything on the host whose owner mark starts with `prefix`: a full scan.

        With `policy` of the firewall only.
        """
        ...

    def apply(self, ops: Sequence[Op]) -> None:
        """Do the steps in order, batching neighbours of one family.

        Raises KernelError whose `done` counts the leading steps that took effect.
        """
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A desired state of `scope`: exactly `desired` of it, nothing else of ours."""

    desired: State
    scope: frozenset[Key]
    known: State = field(default_factory=dict)  # what was made: fills in what can't be observed

    @classmethod
    def of(cls, desired: State, before: State | None = None) -> Change:
        known = {**(before or {}), **desired}
        return cls(desired, frozenset(known), known)

    def excluding(self, kinds: Collection[str]) -> Change | None:
        """The change without these kinds; None if some are desired, or it has none of them.

        For removals: what is left behind carries our mark, and is swept later.
        """
        left = frozenset(k for k in self.scope if k[0] not in kinds)
        if left == self.scope or not self.desired.keys() <= left:
            return None
        return Change(self.desired, left, {k: r for k, r in self.known.items() if k in left})

    def without(self, kinds: Collection[str]) -> Change:
        """The change of everything else: what of these kinds is desired or not is left as it is."""
        return Change(
            {k: r for k, r in self.desired.items() if k[0] not in kinds},
            frozenset(k for k in self.scope if k[0] not in kinds),
            {k: r for k, r in self.known.items() if k[0] not in kinds},
        )


class Converger(Protocol):
    """Apply changes on one host.  Thread-safe: changes from several threads may be grouped."""

    def converge(self, change: Change) -> Plan:
        """Apply all of the change or nothing of it; return the steps taken.

        Raises Conflict (nothing touched), KernelError (everything undone) or NotConverged.
        """
        ...

    def converge_lazily(self, change: Callable[[], Change], *, dry: bool = False) -> Plan:
        """As `converge`, of what `change` returns once all earlier changes have been made.

        No other change happens in between; `change` must not wait for another thread.  With `dry`
        nothing is done, and the steps are those that would be.
        """
        ...

    def observe(self, keys: Iterable[Key]) -> State:
        """Those of `keys` that exist, as they are."""
        ...

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        """Everything on the host whose owner mark starts with `prefix`: a full scan.

        With `policy` of the firewall only.
        """
        ...


def ownership(engine: str, netns: str) -> OwnedPredicate:
    """Return a test for what the netkit with this engine id may change or remove on its host.

    `netns` is the folder of its namespace files: those, and what has no mark of its own inside
    them, are ours by where they are.
    """
    prefix, inside = f"netkit:{engine}:", netns.rstrip("/") + "/"

    def mine(r: Resource) -> bool:
        if r.owner is not None:
            return r.owner.startswith(prefix)
        place = getattr(r, "ns", None) or getattr(r, "path", "")
        return not r.carries_owner and str(place).startswith(inside)

    return mine


def fill_unobservable(seen: State, known: State) -> State:
    """Fill in, from what we know, the fields of an observation that the kernel does not report.

    Without it a veth pair that was removed could not be put back by an undo.
    """
    out: dict[Key, Resource] = {}
    for key, r in seen.items():
        k = known.get(key)
        blank = {"via", "after", *r.unobservable_fields} if type(k) is type(r) else ()
        fill = {
            name: value
            for name in blank
            if getattr(r, name, True) in UNOBSERVED and (value := getattr(k, name))
        }
        out[key] = replace(r, **fill) if fill else r
    return out


def execute(plan: Plan, kernel: Kernel) -> None:
    """Apply every step, or none: on failure undo those done, newest first, and re-raise.

    The first error stays the error; an undo that fails is a note on it.
    """
    try:
        kernel.apply(plan)
    except KernelError as error:
        # A batch whose answer was lost: of the steps after `done` each may have taken effect or
        # not.
        if error.unsure:
            undo(plan[error.done :], kernel, error, look=True)
        undo(plan[: error.done], kernel, error)
        raise
    except BaseException as error:
        undo(plan, kernel, error, look=True)
        raise


def undo(plan: Plan, kernel: Kernel, error: BaseException, *, look: bool = False) -> None:
    """Take back the steps of `plan`, newest first, because of `error`.

    What cannot be undone becomes a note on it.  With `look` it is not known which steps took
    effect, and those are undone that can be seen.
    """
    for op in reversed(plan):
        try:
            if not look or _took_effect(op, kernel.observe((op.subject.key,))):
                kernel.apply((op.inverse(),))
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not undo {op}: {bad}")


def _took_effect(op: Op, seen: State) -> bool:
    have = seen.get(op.subject.key)
    if op.after is None or have is None:
        return op.after is None and have is None
    return not changed(op.after, have)


def converge(change: Change, kernel: Kernel, mine: OwnedPredicate) -> Plan:
    """Make the host match `change`.  Doing it again does nothing.

    What cannot be deleted since its service does not answer stays; everything else goes.
    Raises Conflict (nothing touched), KernelError or NotConverged (everything undone); so is it
    after any other exception.
    """
    try:
        return _converge(change, kernel, mine)
    except Unreachable as error:
        if (rest := change.excluding(error.kinds)) is None:
            raise
        log.warning("to be retried: %s", error)
        return converge(rest, kernel, mine)


def _converge(change: Change, kernel: Kernel, mine: OwnedPredicate) -> Plan:
    try:
        seen = kernel.observe(change.scope)
    except KernelError as error:
        error.nothing_applied = True  # so that callers note no clean-up that finds nothing
        raise
    plan = diff(change.desired, fill_unobservable(seen, change.known), mine)
    if not plan:
        return plan
    execute(plan, kernel)
    # Every step succeeded, and still another tool may have undone one meanwhile, or Linux have made
    # something else of a value: an acknowledged change that is drift at once.
    try:
        _verify(change, kernel, mine)
    except BaseException as error:
        undo(plan, kernel, error)
        raise
    return plan


def _verify(change: Change, kernel: Kernel, mine: OwnedPredicate) -> None:
    if left := diff(change.desired, kernel.observe(change.scope), mine):
        raise NotConverged("still to do after every step succeeded: " + "; ".join(map(str, left)))
