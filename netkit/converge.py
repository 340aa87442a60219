"""Observe, plan, apply, verify.  Knows no driver by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from netkit.errors import KernelError, NotConverged
from netkit.model import Key, Resource, State
from netkit.plan import Op, Plan, diff


class Kernel(Protocol):
    """All I/O there is on links, addresses, routes, rules and settings."""

    def observe(self, keys: Iterable[Key]) -> State:
        """Those of `keys` that exist, as they are.  Costs what the keys cost, not the host."""
        ...

    def owned(self, prefix: str) -> State:
        """Everything on the host whose owner mark starts with `prefix`: a full scan."""
        ...

    def apply(self, ops: Sequence[Op]) -> None:
        """Do the steps in order, batching neighbours of one family.

        Raises KernelError whose `done` counts the leading steps that took effect.
        """
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """What should be true of `scope`: exactly `desired` of it, nothing of ours besides."""

    desired: State
    scope: frozenset[Key]

    @classmethod
    def of(cls, desired: State, before: State | None = None) -> Change:
        return cls(desired, frozenset({*desired, *(before or {})}))


def execute(plan: Plan, kernel: Kernel) -> None:
    """Apply every step, or none: on failure undo those done, newest first, and re-raise.

    The first error stays the error; an undo that fails is a note on it.
    """
    try:
        kernel.apply(plan)
    except KernelError as error:
        for op in reversed(plan[: error.done]):
            try:
                kernel.apply((op.inverse(),))
            except KernelError as bad:
                error.add_note(f"could not undo {op}: {bad}")
        raise


def converge(change: Change, kernel: Kernel, mine: Callable[[Resource], bool]) -> Plan:
    """Make the host match `change`.  Doing it again does nothing.

    Raises Conflict (nothing touched), KernelError (everything undone) or NotConverged.
    """
    plan = diff(change.desired, kernel.observe(change.scope), mine)
    if not plan:
        return plan
    execute(plan, kernel)
    if left := diff(change.desired, kernel.observe(change.scope), mine):
        raise NotConverged("still to do after every step succeeded: " + "; ".join(map(str, left)))
    return plan
