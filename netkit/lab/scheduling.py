"""The schedule of lab.yml as events, checked against the hosts and links of the lab.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from netkit.errors import InvalidSpec, NetkitError
from netkit.lab import checks
from netkit.lab.checks import Check
from netkit.lab.links import changed_by, chosen
from netkit.lab.model import Lab
from netkit.lab.schedule import Event, Recovery, bounded, parsed
from netkit.lab.schema import Path, Problem
from netkit.model.impairment import TwoWay
from netkit.suggestion import hint

MAX_STREAMS = 100  # of a schedule: each sends a hundred packets a second


def scheduled(lab: Lab, doc: Mapping[str, Any]) -> tuple[Lab, list[Problem]]:
    """The lab with the events of `doc`, by time, and what is wrong with them."""
    problems: list[Problem] = []
    events = []
    for name, values in doc.items():
        at: Path = ("schedule", name)
        try:
            event = _event(lab, name, values)
        except (ValueError, NetkitError) as bad:
            problems.append((at, str(bad)))
            continue
        problems += [(at, why) for why in _wrong(lab, event)]
        events.append(event)
    if sum(len(e.recover) for e in events) > MAX_STREAMS:
        problems.append((("schedule",), f"recover: more than {MAX_STREAMS} pairs are probed"))
    return replace(lab, schedule=tuple(sorted(events, key=lambda e: e.at))), problems


def _event(lab: Lab, name: str, d: Mapping[str, Any]) -> Event:
    recover = _expanded(lab, [f"{line} icmp ok" for line in d.get("recover", ())])
    return Event(
        name=name,
        at=bounded(d.get("at", "0s")),
        fault=parsed(d["do"]),
        during=_expanded(lab, d.get("during", ())),
        recover=tuple(Recovery(source=c.source, target=c.target, where=c.where) for c in recover),
        within=bounded(d["within"]) if "within" in d else None,
    )


def _expanded(lab: Lab, lines: list[str] | tuple[str, ...]) -> tuple[Check, ...]:
    containers = [c.name for _, c in lab.containers()]
    hosts = [h.name for h in lab.hosts]
    found = [c for line in lines for c in checks.expanded(checks.parse(line), containers, hosts)]
    return tuple(dict.fromkeys(found))


def _wrong(lab: Lab, event: Event) -> Iterator[str]:
    fault, names = event.fault, [h.name for h in lab.hosts]
    if event.within is not None and not event.recover:
        yield "within: of which path? give recover: [a -> b]"
    if fault.kind == "link":
        try:
            found = chosen(lab, fault.link)
            changed_by(lab, {str(e): TwoWay() for e in found.ends}, found, fault.request)
        except InvalidSpec:
            pass  # jitter of a link that has a delay already
        except NetkitError as bad:
            yield str(bad)
    elif fault.kind == "daemon":
        host = lab.host(fault.host)
        if host is None or host.daemon is None:
            able = [h.name for h in lab.hosts if h.daemon is not None]
            yield _unknown("host with a daemon", fault.host, able)
    else:
        named = [name for group in fault.groups for name in group]
        for name in named:
            if name not in names:
                yield _unknown("host", name, names)
        if missing := [h.name for h in lab.hosts if h.interfaces and h.name not in named]:
            yield f"partition: on which side are {', '.join(missing)}?"


def _unknown(what: str, name: str, known: list[str]) -> str:
    there = f" (there are: {', '.join(known) or 'none'})"
    return f"no {what} is called {name!r}{hint(name, known) or there}"
