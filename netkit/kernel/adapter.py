"""Registry of resource types, each with its adapter to read and change the host.

A new kind of resource is a value (netkit.model), a module here with an `Adapter` of it, and one
line in the list of `netkit.kernel.host`: docs/design.md, "A new kind of resource".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from netkit.errors import KernelError
from netkit.kernel.session import Session
from netkit.model import Key, Resource
from netkit.reconcile.plan import Op

Seen = Mapping[Key, Resource]


def _nothing(session: Session, prefix: str) -> Seen:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adapter:
    """Read and change one family of resources.  Consecutive steps of one are one batch.

    `apply` does the steps in order; a KernelError has in `done` how many took effect.
    """

    types: tuple[type[Resource], ...]
    kinds: frozenset[str]  # the first words of the keys of those types
    observe: Callable[[Session, Collection[Key]], Seen]  # those of the keys that exist
    apply: Callable[[Session, Sequence[Op]], object]
    owned: Callable[[Session, str], Seen] = _nothing  # all whose mark begins so: a full scan
    # Wait until what keeps these can be changed.  KernelError: it cannot.  Called by the thread
    # that asks for a change, before that is queued: other changes go on meanwhile.
    ready: Callable[[], object] | None = None
    policy: bool = False  # the firewall's
    placed: bool = False  # the second word of its keys is a namespace
    looks_around: bool = False  # to read its own it is shown the keys of all placed kinds


class Registry:
    """The adapters of one host, in the order in which they are read."""

    def __init__(self, adapters: Iterable[Adapter]) -> None:
        """ValueError if two have one type or one kind of key."""
        self._adapters = tuple(adapters)
        self._placed = frozenset(k for a in self._adapters if a.placed for k in a.kinds)
        self._by_type: dict[type[Resource], Adapter] = {}
        for adapter in self._adapters:
            for type_ in adapter.types:
                if self._by_type.setdefault(type_, adapter) is not adapter:
                    raise ValueError(f"two adapters of {type_.__name__}")
        kinds = [kind for adapter in self._adapters for kind in adapter.kinds]
        if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
            raise ValueError(f"two adapters of keys {min(twice)}")

    def ready(self, kinds: Collection[str]) -> None:
        """Wait for what keeps resources of these kinds.  KernelError: it does not answer."""
        for adapter in self._adapters:
            if adapter.ready is not None and not adapter.kinds.isdisjoint(kinds):
                adapter.ready()

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        """Those of `keys` that exist, as they are."""
        by_kind: dict[str, set[Key]] = {}
        for key in keys:
            by_kind.setdefault(key[0], set()).add(key)
        out: dict[Key, Resource] = {}
        for adapter in self._adapters:
            if not adapter.kinds.isdisjoint(by_kind):
                known = adapter.kinds | (self._placed if adapter.looks_around else frozenset())
                out |= adapter.observe(session, set().union(*(by_kind.get(k, ()) for k in known)))
        return out

    def owned(
        self, session: Session, prefix: str, *, policy: bool = False
    ) -> dict[Key, Resource]:
        """All whose owner begins with `prefix`; with `policy` of the firewall only."""
        out: dict[Key, Resource] = {}
        for adapter in self._adapters:
            if adapter.policy or not policy:
                out |= adapter.owned(session, prefix)
        return out

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """Do the steps in order.  A KernelError has in `done` how many took effect."""
        done = 0
        for adapter, members in groupby(ops, key=self._of):
            batch = tuple(members)
            try:
                adapter.apply(session, batch)
            except KernelError as e:
                e.done += done
                raise
            done += len(batch)

    def _of(self, op: Op) -> Adapter:
        adapter = self._by_type.get(type(op.subject))
        if adapter is None:
            raise KernelError(f"{op}: this host cannot have a {type(op.subject).__name__}")
        return adapter


__all__ = ["Adapter", "Registry"]
