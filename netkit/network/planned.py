"""What creating, removing or repairing networks would do: the steps, and nothing done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from netkit.reconcile.plan import Plan
from netkit.spec import NetworkRecord, NetworkSpec


@dataclass(frozen=True, kw_only=True)
class PlannedNetwork:
    """A network that would be created.  Its id, which names of links may derive from, is drawn
    for this plan alone."""

    record: NetworkRecord
    warnings: list[str]
    steps: Plan


@dataclass(frozen=True, kw_only=True)
class PlannedRepair:
    """`busy`: operations are under way, whose networks and containers were left out."""

    steps: Plan
    busy: bool


class Plans(Protocol):
    """Plans from the rows and the host as they are; neither is changed."""

    def create(self, spec: NetworkSpec) -> PlannedNetwork:
        """The steps of a creation.  Raises what the creation would raise before its first step;
        what the kernel refuses during a step is not known ahead."""
        ...

    def remove(self, ref: str) -> tuple[NetworkRecord, Plan]:
        """The steps of a removal.  Raises what the removal would raise before its first step."""
        ...

    def repair(self, refs: Sequence[str] = ()) -> PlannedRepair:
        """The steps by which these networks, or all, would be as their rows require, with the
        endpoints of running containers.  NotFound."""
        ...


__all__ = ["PlannedNetwork", "PlannedRepair", "Plans"]
