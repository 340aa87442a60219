"""In what a lab that is up is not as it was applied: changed by hand, or not applied yet.

Interfaces of a host with `setup`, or that a network has taken over, are theirs to change; what was
added to hosts, and is in no part, is not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from netkit.client.failure import Failure
from netkit.kernel import netns
from netkit.lab import applying, engines
from netkit.lab.changes import taken_over
from netkit.lab.model import PODMAN, UNDERLAY, Lab, Places
from netkit.lab.parts import (
    CONTAINER,
    HOST,
    INTERFACE,
    NETWORK,
    ROUTES,
    SEGMENT,
    SYSCTLS,
    Part,
    Parts,
    titled,
    wired,
)
from netkit.lab.record import Record, Recorded
from netkit.lab.rewiring import Rewiring, Scope
from netkit.reconcile.plan import shown


def drift(lab: Lab, places: Places) -> list[str]:
    """A line for each thing, in the order of lab.yml; none of a lab without a record."""
    record = Record(places.folder)
    if not record.exists():
        return []
    have = record.read()
    return [
        *(f"changed by hand: {line}" for line in _by_hand(lab.name, places, have)),
        *(f"not applied: {step}" for step in _late(lab, places)),
    ]


def _late(lab: Lab, places: Places) -> Iterator[str]:
    for step in applying.changed(lab, places):
        yield f"{step} (netkit lab apply {lab.name})"


def _by_hand(name: str, places: Places, have: Recorded) -> Iterator[str]:
    found: Parts = {p: v for p, v in have.applied.items() if have.certain(p)}
    lost = {p[1] for p in found if p[0] == HOST and not netns.exists(places.netns(p[1]))}
    for host in sorted(lost):
        yield f"- host {host}"
    found = {p: v for p, v in found.items() if len(p) < 2 or p[1] not in lost}
    if netns.exists(places.netns(UNDERLAY)):
        yield from _wires(name, places, found)
    for host in [p[1] for p in found if p[0] == HOST and found[p]["netkitd"]]:
        yield from _engine(places, host, found)


def _wires(name: str, places: Places, found: Parts) -> Iterator[str]:
    """The planner's steps back to what was applied."""
    own = {p[1] for p in found if p[0] == HOST and not found[p]["setup"]}
    taken = {host: taken_over(found, host) for host in own}
    scope = Scope(
        segments={p[1] for p in found if p[0] == SEGMENT},
        interfaces={
            (p[1], p[2]) for p in found
            if p[0] == INTERFACE and p[1] in own and p[2] not in taken[p[1]]
        },
        routes={p[1] for p in found if p[0] == ROUTES and p[1] in own and not taken[p[1]]},
        sysctls={p[1] for p in found if p[0] == SYSCTLS and p[1] in own},
    )  # fmt: skip
    there = wired(name, found)
    ways = Rewiring(old=[there], new=there, places=places, scope=scope, exact=True)
    yield from (f"needs {shown(op)}" for op in ways.plan())


def _engine(places: Places, host: str, found: Parts) -> Iterator[str]:
    try:
        with closing(engines.engine(places, host)) as engine:
            seen = engine.get("/containers/json", {"all": True})
            networks = {each["Name"]: each for each in engine.get("/networks")}
    except Failure as failure:
        yield f"{host}: {failure}"
        return
    there = {each["Names"][0].removeprefix("/"): each for each in seen}
    for part, value in found.items():
        if part[:2] == (NETWORK, host) and found[HOST, host]["engine"] != PODMAN:  # they are files
            yield from _network(part, value, networks.get(part[2]))
        elif part[:2] == (CONTAINER, host):
            yield from _container(part, value, there.get(part[2]))


def _network(part: Part, value: Mapping[str, Any], seen: Mapping[str, Any] | None) -> Iterator[str]:
    if seen is None:
        yield f"- {titled(part)}"
        return
    subnets = [each.get("Subnet", "") for each in (seen["IPAM"]["Config"] or ())]
    if value["subnet"] and value["subnet"] not in subnets:
        yield f"~ {titled(part)} (subnet {', '.join(subnets)}, not {value['subnet']})"
    if value["driver"] != seen["Driver"]:
        yield f"~ {titled(part)} (driver {seen['Driver']}, not {value['driver']})"


def _container(
    part: Part, value: Mapping[str, Any], seen: Mapping[str, Any] | None
) -> Iterator[str]:
    if seen is None:
        yield f"- {titled(part)}"
        return
    if seen["State"] != "running":
        yield f"~ {titled(part)} ({seen['State']}, not running)"
    wanted = {name for name, _ in value["networks"]}
    joined = set(seen["NetworkSettings"]["Networks"])
    if wanted and joined != wanted:
        on = " and ".join(sorted(joined)) or "none"
        yield f"~ {titled(part)} (on {on}, not on {' and '.join(sorted(wanted))})"
