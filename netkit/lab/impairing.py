"""Impair the links of a lab: what is wanted of each, what it takes, and have it so.

A link is a host's interface, HOST@INTERFACE.  What lab.yml says of it holds until something else is
asked for, which holds until the lab is down.  Where a relay is needed, it stands between the end of
the interface's veth in the underlay's namespace and the segment:

    HOST: eth0 ==veth== h1-eth0 - [h1-eth0~b] - h1-eth0~n  relay  h1-eth0~f - [segment]

~b is a bridge of those two ports, ~n and ~f are tap devices.  The relay ends with the namespace's
processes (`sweep`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.lab import fabric
from netkit.lab.links import End, ends
from netkit.lab.model import UNDERLAY, Lab, Places
from netkit.lab.relaying import Relay, part, write
from netkit.model import Link, Resource, changed, deviations, state
from netkit.model.impairment import (
    Impairment,
    TwoWay,
    both_ways,
    spelled,
)
from netkit.reconcile.converge import Change, converge

AT_ONCE = 8
LOST = Impairment(loss=1.0)


def wanted(lab: Lab, places: Places) -> dict[str, TwoWay]:
    """Of all links: those of lab.yml, and what was asked for since `up`."""
    live = _live(places)
    segments = {s.name: s.impair for s in lab.segments}
    own = {
        str(e): segments.get(i.segment, TwoWay()) if i.impair is None else i.impair
        for e in ends(lab) for i in (e.interface,)
    }  # fmt: skip
    return {link: live.get(link, by_file) for link, by_file in own.items()}


def _live(places: Places) -> dict[str, TwoWay]:
    try:
        read = json.loads(Path(places.impairments).read_text())
    except FileNotFoundError:
        return {}
    return {link: both_ways(values) for link, values in read.items()}


def change(places: Places, new: Mapping[str, TwoWay]) -> None:
    """Note what is asked for, on disk before it is done.  The caller has the lab's lock."""
    found = {link: spelled(way) for link, way in {**_live(places), **new}.items()}
    write(Path(places.impairments), found)


def withdraw(places: Places, links: Collection[str]) -> None:
    """What was asked for of these since `up` holds no more."""
    if kept := {link for link in _live(places) if link in links}:
        left = {link: spelled(way) for link, way in _live(places).items() if link not in kept}
        write(Path(places.impairments), left)


def plugged(lab: Lab, places: Places, end: End, way: TwoWay) -> Link:
    """The end of an interface's veth as it is plugged in: to its segment, or to a relay."""
    found = resources(lab, places, end, way)
    return next(r for r in found if isinstance(r, Link) and r.name == end.port)


# what it takes


def carried(way: TwoWay) -> TwoWay:
    """What a relay has to do of it: one way of a link that is down loses everything."""

    def one(i: Impairment) -> Impairment:
        return LOST if i.down else i

    return replace(way, out=one(way.out), into=one(way.into))


def mechanism(way: TwoWay) -> str:
    """Return "none", "link down" or "relay"."""
    if not way:
        return "none"
    return "link down" if way.out.down and way.into.down else "relay"


def resources(
    lab: Lab, places: Places, end: End, way: TwoWay, side: int = 0
) -> tuple[Resource, ...]:
    """What is in the underlay's namespace of a link that is impaired so, but for the relay.

    With `side` it is on that side of its segment, which is partitioned.
    """
    mark = fabric.owner(lab.name)
    segment = part(end.interface.segment, str(side)) if side else end.interface.segment
    cable = next(
        r for r in fabric.wires(lab, end.host, places.netns(end.host.name))
        if isinstance(r, Link) and r.name == end.port
    )  # fmt: skip
    cable = replace(cable, depends_on=(), master=segment)
    how = mechanism(way)
    if how == "link down":
        return (replace(cable, up=False),)
    if how == "none":
        return (cable,)
    middle, near, far = (part(end.port, letter) for letter in "bnf")
    tap = Link(name=near, kind="tap", master=middle, mtu=cable.mtu, owner=mark)
    return (
        Link(name=middle, kind="bridge", snooping=False, mtu=cable.mtu, owner=mark),
        replace(cable, master=middle),
        tap,
        replace(tap, name=far, master=segment),
    )


# have it so


def settle(lab: Lab, places: Places, only: str = "", links: Collection[str] | None = None) -> None:
    """Have all links, or those of a host, as they are wanted; what is so already is left alone.

    With `links` those only.

    KernelError, Conflict.  The caller has the lab's lock.
    """
    found, live = wanted(lab, places), _live(places)
    known = {link for link, way in found.items() if way or link in live}
    meant = [
        end for end in ends(lab)
        if only in {"", end.host.name} and str(end) in (known if links is None else links)
    ]  # fmt: skip
    # The start of a relay is mostly waiting; no link is part of another.
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="impair") as pool:
        futures = [pool.submit(have, lab, places, end, found[str(end)]) for end in meant]
    for future in futures:
        future.result()


def have(lab: Lab, places: Places, end: End, way: TwoWay, side: int = 0) -> None:
    """Have one link so, if its host is there."""
    if not netns.exists(places.netns(end.host.name)):
        return
    how = mechanism(way)
    relay = Relay(places, end.host.name, end.interface.name)
    if how != "relay":
        relay.stop()
    mark = fabric.owner(lab.name)
    before = state(resources(lab, places, end, TwoWay(out=LOST)))
    desired = state(resources(lab, places, end, way, side))
    host = Host(places.netns(UNDERLAY))
    converge(Change.of(desired, before), host, lambda r: r.owner == mark)
    if how == "relay":
        relay.ensure(carried(way))


def forget(places: Places, host: str, interface: str = "*") -> None:
    """Have nothing left of the relays of a host, or one interface.  Needs no lab.yml."""
    mark = fabric.owner(places.lab)
    for file in sorted(Path(places.run(UNDERLAY)).glob(f"{host}@{interface}.json")):
        relay = Relay(places, host, file.name.removesuffix(".json").partition("@")[2])
        relay.stop()
        kinds = {"b": "bridge", "n": "tap", "f": "tap"}
        gone = [Link(name=part(relay.port, p), kind=k, owner=mark) for p, k in kinds.items()]
        there = Host(places.netns(UNDERLAY))
        converge(Change.of({}, state(gone)), there, lambda r: r.owner == mark)


def drift(lab: Lab, places: Places, end: End, way: TwoWay) -> str:
    """How the link is not as it is wanted; "" where it is."""
    desired = state(resources(lab, places, end, way))
    seen = Host(places.netns(UNDERLAY)).observe(desired)
    for key, want in desired.items():
        have = seen.get(key)
        if have is None:
            return f"there is no {want}"
        if changed(want, have):
            return deviations(want, have)
    relay = Relay(places, end.host.name, end.interface.name)
    if mechanism(way) == "relay" and relay.report() is None:
        return "its relay does not run: nothing passes"
    return ""


# what is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A link: what is wanted, what does it, and what it has measured."""

    link: str
    wanted: TwoWay
    by: str
    report: Mapping[str, Any] | None  # of its relay
    drift: str

    def measured(self, way: str) -> str:
        """Of one way, for people."""
        seen = (self.report or {}).get(way)
        if not seen:
            return ""
        words = [f"{seen['frames']} packets"]
        for name in ("lost", "duplicated", "reordered", "corrupted", "overflowed"):
            if seen[name]:
                words.append(f"{seen[name] / seen['frames'] * 100:.3g}% {name}")
        if seen["late_max"]:
            mean, worst = (f"{seen[k] * 1e3:.2f}ms" for k in ("late_mean", "late_max"))
            words.append(f"late by {mean}, at most {worst}")
        return ", ".join(words)

    def document(self) -> dict[str, object]:
        return {"link": self.link, **spelled(self.wanted), "by": self.by, "measured": self.report,
                "drift": self.drift}  # fmt: skip


def standing(lab: Lab, places: Places, end: End) -> Standing:
    """How it is now."""
    way = wanted(lab, places)[str(end)]
    how = mechanism(way)
    relay = Relay(places, end.host.name, end.interface.name)
    return Standing(
        link=str(end), wanted=way, by=how, drift=drift(lab, places, end, way),
        report=relay.report() if how == "relay" else None,
    )  # fmt: skip
