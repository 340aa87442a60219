"""Drift of one resource, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from netkit.model import Key, Link, Resource, changed, deviations

MISSING = frozenset({"missing"})
ETHERNET = 1500  # bytes: the MTU that the kernel gives a veth (ether_setup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One desired resource, and whose it is."""

    resource: Resource
    network: str  # its name; "" of what all share
    container: str = ""
    engine: str = ""  # that runs the container; "" netkit's own
    near: Key | None = None  # the host's end of the container's pair
    administered: bool = False  # others may change its interfaces: CAP_NET_ADMIN, or its engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """`note` is why it is not repaired, or not now; "" if it is."""

    wanted: Wanted
    have: Resource | None
    names: frozenset[str]  # of the fields that differ
    note: str = ""

    @property
    def thing(self) -> tuple[Key, frozenset[str]]:
        return self.wanted.resource.key, self.names

    def __str__(self) -> str:
        r = self.wanted.resource
        return f"+ {r}" if self.have is None else f"~ {r}: {deviations(r, self.have)}"


class LinkCheck(NamedTuple):
    """What is not as it should be, and why some of it could not be looked at."""

    drifts: list[Drift]
    failures: list[str]


def explicit(r: Resource) -> Resource:
    """With what a driver that has no opinion gets: another tool may not change that either.

    Not so of bridges, whose MTU follows their ports': see `follows`.
    """
    return replace(r, mtu=ETHERNET) if isinstance(r, Link) and r.kind == "veth" and (
        r.mtu is None
    ) else r  # fmt: skip


def follows(r: Resource) -> bool:
    """Is it a bridge whose MTU is the kernel's choice: the least of its ports'?

    It is until a tool sets one: then the kernel leaves it for good (br_mtu_auto_adjust).  So one
    that is not the least of the ports' was set, and setting it back does not fight the kernel.
    """
    return isinstance(r, Link) and r.kind == "bridge" and r.mtu is None


def changes(want: Resource, have: Resource | None) -> frozenset[str]:
    """Names of the fields that differ, or MISSING.  The administrator's bridge will do as it is."""
    if have is None:
        return MISSING
    names = changed(want, have)
    if want.accept_existing and names and have.owner != want.owner:
        names -= want.mutable | {"owner"}
    return names
