"""Points of a lab: links, interfaces of its hosts, its containers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from netkit.capture.flows import Flow
from netkit.capture.marks import Tracing
from netkit.capture.points import Point, of_container, of_host
from netkit.capture.words import Spot
from netkit.client.failure import Refused
from netkit.diagnose.trace.join import Trace
from netkit.errors import NotFound
from netkit.kernel import netns
from netkit.lab import engines, links
from netkit.lab.facts import Facts
from netkit.lab.model import Lab, LabHost, Places
from netkit.lab.tracing import traced
from netkit.suggestion import hint


def of_lab(lab: Lab, places: Places, spot: Spot) -> list[Point]:
    """NotFound lists what there is.  Of a segment, and of HOST-HOST, the ends at all its hosts."""
    for home, container in lab.containers():
        if container.name == spot.owner:
            return _container(places, home, spot)
    if host := lab.host(spot.owner):
        if spot.network:
            raise NotFound(f"{spot.owner} is a host: {spot.owner}@INTERFACE")
        if spot.interface:
            return [_at(lab, places, host, spot.interface)]
    known = list(_known(lab))
    if spot.network or spot.interface or not _is_link(lab, spot.owner):
        there = hint(spot.owner, known) or f" (there are: {', '.join(known)})"
        raise NotFound(f"lab {lab.name} has no {spot.owner!r}{there}")
    ends = links.chosen(lab, spot.owner).ends
    return [_at(lab, places, end.host, end.interface.name) for end in ends]


def _is_link(lab: Lab, text: str) -> bool:
    names = {h.name for h in lab.hosts} | {s.name for s in lab.segments}
    return text in names or bool(names.issuperset(text.split("-")) and text.count("-") == 1)


def _known(lab: Lab) -> Iterator[str]:
    yield from (segment.name for segment in lab.segments)
    yield from map(str, links.ends(lab))
    yield from (container.name for _, container in lab.containers())


def _at(lab: Lab, places: Places, host: LabHost, interface: str) -> Point:
    ns = places.netns(host.name)
    if not netns.exists(ns):
        raise NotFound(f"host {host.name} is not up: netkit lab up {lab.name} {host.name}")
    spot = Spot(owner=host.name, interface=interface)
    on = next((i.segment for i in host.interfaces if i.name == interface), "")
    words = f"host {host.name} of lab {lab.name}" + (f", segment {on}" if on else "")
    return replace(of_host(ns, spot, host.name, words), host=host.name)


def _container(places: Places, host: LabHost, spot: Spot) -> list[Point]:
    engine = engines.engine(places, host.name)
    try:
        seen = engine.get(f"/containers/{spot.owner}/json")
    except Refused as refused:
        if refused.status != 404:
            raise
        raise NotFound(f"container {spot.owner} is not there: netkit lab up {places.lab}") from None
    finally:
        engine.close()
    found = of_container(seen, spot, f"host {host.name} of lab {places.lab}")
    return [replace(each, host=host.name) for each in found]


def tracing(lab: Lab, places: Places) -> Tracing:
    """By all engines of the lab."""
    facts = Facts(lab, places)

    def trace(flow: Flow, host: str) -> Trace:
        having = [
            n for n in facts.nodes() if flow.source in {str(a.ip) for a in n.addresses.values()}
        ]
        having.sort(key=lambda node: node.host != host)
        if not having:
            raise NotFound(f"{flow.source} is no address of lab {lab.name}")
        return traced(facts, having[0].name, flow.target, flow.service)

    return trace
