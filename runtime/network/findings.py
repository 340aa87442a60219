"""Findings of `fw check` that repair cannot fix, each a line with advice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from netkit.diagnose.explain.facts import Facts
from netkit.errors import KernelError
from netkit.network.api import Networks
from netkit.network.published_ports import reached_at
from netkit.store import LeftOut
from runtime.network import foreign_rules

DECISIVE = frozenset({"networks", "endpoints", "sandboxes", "access", "around"})  # tables


def unreadable(
    networks: Networks, left_out: Iterable[LeftOut], targets: Mapping[str, str]
) -> list[str]:
    """Rows that cannot be read or used; their rules in the kernel are left as they are.

    `targets`: the container that an access rule applies to, by the rule's id.
    """
    unread = [left for left in left_out if left.kind.table in DECISIVE]
    rows = [
        f"{left.kind.name} {left.id}{_to(targets.get(left.id))} cannot be read, its rules in "
        f"the kernel stay: {left.kind.remedy.format(id=left.id)}"
        for left in unread
    ]
    names = {n.id: n.spec.name for n in networks.all()}
    seen = {names.get(left.id) for left in unread}
    return rows + [
        f"network {name} cannot be used, its rules stay as they are: {why}"
        for name, why in networks.refused().items()
        if name not in seen
    ]


def _to(target: str | None) -> str:
    return f" to {target}" if target else ""


def taken(networks: Networks, look: Callable[[], Facts]) -> list[str]:
    """Rules of other tools that may take the packets of a published port."""
    ports = [
        foreign_rules.Port(e.owner_name, p.proto, p.host_ip, p.host_port, str(reached_at(e)))
        for e in networks.endpoints()
        for p in e.ports
        if p.host_port
    ]
    if not ports:
        return []
    try:
        return foreign_rules.taking(look(), ports)
    except KernelError as error:  # a tool is missing, or fails
        return [f"rules of other tools cannot be read: {error}"]
