"""Links of a lab as users name them, and what is to change of their impairments.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from netkit.errors import NotFound
from netkit.lab import fabric
from netkit.lab.impairment_request import DOWN, ImpairmentRequest
from netkit.lab.model import Interface, Lab, LabHost
from netkit.model.impairment import PERFECT, TwoWay
from netkit.suggestion import hint


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An interface of a host, which is one end of a link."""

    host: LabHost
    interface: Interface

    def __str__(self) -> str:
        return f"{self.host.name}@{self.interface.name}"

    @property
    def port(self) -> str:
        return fabric.port(self.host.name, self.interface.name)


def ends(lab: Lab) -> Iterator[End]:
    return (End(host=h, interface=i) for h in lab.hosts for i in h.interfaces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One end, which is impaired both ways; or all of a `segment`, in what each sends."""

    ends: tuple[End, ...]
    segment: bool


def changed_by(
    lab: Lab, now: Mapping[str, TwoWay], found: Chosen, request: ImpairmentRequest
) -> dict[str, TwoWay]:
    """What the links are to do then.  NotFound for an unknown host, InvalidSpec."""
    for end in found.ends if request.source else ():
        _known_source(lab, end, found.segment, request.source)
    out = {}
    for end in found.ends:
        before = now[str(end)]
        seed = request.seed if request.seed is not None else None if request.clear else before.seed
        if request.source:
            mine = request.source == end.host.name
            way = replace(before, out=request.of(before.out)) if mine else before
            if not mine and not found.segment:
                way = replace(before, into=request.of(before.into))
        elif found.segment:
            into = PERFECT if request.clear or before.into.down else before.into
            way = TwoWay(out=request.of(before.out), into=DOWN if request.down else into)
        else:
            way = TwoWay(out=request.of(before.out), into=request.of(before.into))
        out[str(end)] = replace(way, seed=seed)
    return out


def every(lab: Lab) -> Chosen:
    return Chosen(ends=tuple(ends(lab)), segment=False)


def _known_source(lab: Lab, end: End, segment: bool, source: str) -> None:
    """NotFound if it does not send into that link, or others do as well."""
    on = {e.host.name for e in ends(lab) if e.interface.segment == end.interface.segment}
    if source not in on:
        there = hint(source, on) or f" (there are: {', '.join(sorted(on))})"
        raise NotFound(f"no host {source!r} sends into this link{there}")
    if source != end.host.name and not segment and len(on) > 2:
        others = ", ".join(sorted(on - {end.host.name}))
        raise NotFound(f"{end} gets packets of {others}: impair what {source} sends at its own end")


def chosen(lab: Lab, text: str) -> Chosen:
    """The ends that a user means by HOST, HOST@INTERFACE, HOST-HOST or SEGMENT.  NotFound."""
    all_ends = tuple(ends(lab))
    if named := [e for e in all_ends if str(e) == text]:
        return Chosen(ends=tuple(named), segment=False)
    if own := [e for e in all_ends if e.host.name == text]:
        if own[1:]:
            raise NotFound(f"{text} has several links: name one of {', '.join(map(str, own))}")
        return Chosen(ends=tuple(own), segment=False)
    on = [e for e in all_ends if e.interface.segment == text]
    if found := on or (_between(all_ends, *text.split("-")) if text.count("-") == 1 else []):
        return Chosen(ends=tuple(found), segment=True)
    known = [*map(str, all_ends), *(s.name for s in lab.segments)]
    there = hint(text, known) or f" (there are: {', '.join(known) or 'none'})"
    raise NotFound(f"lab {lab.name} has no link {text!r}{there}")


def _between(every: Sequence[End], one: str, other: str) -> list[End]:
    """Both ends of a segment that has no others.  NotFound if it has."""
    for end in every:
        on = [e for e in every if e.interface.segment == end.interface.segment]
        names = [e.host.name for e in on]
        if end.host.name == one and other in names and one != other:
            if len(on) == 2:
                return on
            raise NotFound(
                f"{end.interface.segment} connects {', '.join(names)}, not {one} and {other} "
                f"alone: name an end, as {end}, or the segment"
            )
    return []
