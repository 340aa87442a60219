"""What can exist on a host, as immutable values.  Imports nothing of ours but errors.

Every resource answers two questions: `key`, what makes it *that* thing, and
`needs`, which keys must exist first.  All other fields are what we want of it.

* In the fields a type lists as `optional_fields`, None means "no opinion": never compared.
  In those it lists as `unobservable_fields`, an observation may leave None: "could not see".
* `carries_owner` types carry their owner in the kernel (ifalias, comment).  For the others an
  observation has the owner it can infer, or None; it never counts as a difference.
* `via` and `depends_on` order steps, and are no part of what a thing is.
* With `accept_existing`, one that exists already and is not ours will do as it is, unless it is
  another kind of thing; we never change or remove it.
* A resource without an owner is a requirement: it must exist, and is not ours to change.
* `is_firewall` types are the firewall's; another tool's change of them is repaired.
* `global_setting` types (a sysctl) always exist and have no owner: we may set, never delete.
* `describe` is what errors, logs and plans call it; no user ever sees a repr.
* `order` orders steps that do not need each other: policy comes before wires, and
  steps of one kernel family stay together so that they can be one transaction.

Network namespaces are named by the absolute path of their file ("" is the host's own,
that is, the one the daemon runs in).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import ClassVar

from netkit.errors import Conflict

HOST = ""
Key = tuple[str, ...]
IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    mutable: ClassVar[frozenset[str]] = frozenset()  # can change in place
    optional_fields: ClassVar[frozenset[str]] = frozenset({"owner"})
    unobservable_fields: ClassVar[frozenset[str]] = frozenset()
    carries_owner: ClassVar[bool] = False
    global_setting: ClassVar[bool] = False
    is_firewall: ClassVar[bool] = False  # part of the firewall: kept right against other tools
    order: ClassVar[int] = 5
    owner: str | None = None
    depends_on: tuple[Key, ...] = field(default=(), compare=False)
    accept_existing: bool = field(default=False, compare=False)

    @property
    def key(self) -> Key:
        raise NotImplementedError

    @property
    def needs(self) -> tuple[Key, ...]:
        return self.depends_on

    def describe(self) -> str:
        """Name it for people, in the field's terms: "address 172.17.0.1/16 on docker0"."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.describe()


State = Mapping[Key, Resource]


def state(resources: Iterable[Resource]) -> State:
    """Index resources by key; equal duplicates are fine, contradictions are not.

    Raises Conflict naming the key and both values.
    """
    out: dict[Key, Resource] = {}
    for r in resources:
        said = out.setdefault(r.key, r)
        if said is not r and (changed(said, r) or changed(r, said)):
            raise Conflict(f"{r} is desired in two ways: {differences(said, r)}")
    return out


def changed(want: Resource, have: Resource) -> frozenset[str]:
    """Return the names of the fields of `want` that `have` does not satisfy."""
    if want == have:
        return frozenset()
    if type(want) is not type(have):
        return frozenset({"type"})
    return frozenset(
        name
        for name in _compared(type(want))  # type: ignore[arg-type]
        if (wanted := getattr(want, name)) != (seen := getattr(have, name))
        and not (wanted is None and name in want.optional_fields)
        and not (seen is None and name in want.unobservable_fields)
    )


def differences(want: Resource, have: Resource) -> str:
    """In which fields `have` does not satisfy `want`, for people: "mtu 1500, not 1400"."""
    names = sorted(changed(want, have) | changed(have, want))
    if "type" in names:
        return f"{have}, not {want}"
    shown = ((n, _value(getattr(have, n)), _value(getattr(want, n))) for n in names)
    return ", ".join(f"{name} {there}, not {here}" for name, there, here in shown if there != here)


def deviations(want: Resource, have: Resource) -> str:
    """In which fields `have` does not satisfy `want`; as `differences`, one way only."""
    names = sorted(changed(want, have))
    if "type" in names:
        return f"{have}, not {want}"
    return ", ".join(f"{n} {_value(getattr(have, n))}, not {_value(getattr(want, n))}"
                     for n in names)  # fmt: skip


def _value(value: object) -> str:
    if isinstance(value, tuple | frozenset):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):  # 1 and 0 are numbers
        return "on" if value else "off"
    return "none" if value is None else str(value)


@cache
def _compared(kind: type[Resource]) -> tuple[str, ...]:
    names = [f.name for f in fields(kind) if f.compare]
    return tuple(n for n in names if n != "owner" or kind.carries_owner)
