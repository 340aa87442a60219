"""Sides of segments that are partitioned: a bridge each, beside that of the segment itself."""

from __future__ import annotations

from pathlib import Path

from netkit.kernel.host import Host
from netkit.lab import fabric, impairing
from netkit.lab.links import ends
from netkit.lab.model import UNDERLAY, Lab, Places
from netkit.lab.relaying import part
from netkit.model import Link, state
from netkit.reconcile.converge import Change, converge


def split(lab: Lab, places: Places, sides: int) -> None:
    """Have bridges for so many more sides of each segment."""
    if sides:
        fabric.lay(lab, places, *_sides(lab, sides))


def join(lab: Lab, places: Places) -> None:
    """Have no sides of segments: no link is on them any more."""
    mark = fabric.owner(lab.name)
    before = state(_sides(lab, len(lab.hosts)))
    there = Host(places.netns(UNDERLAY))
    converge(Change.of({}, before), there, lambda r: r.owner == mark)


def _sides(lab: Lab, count: int) -> list[Link]:
    return [
        Link(name=part(s.name, str(n)), kind="bridge", mtu=s.mtu, owner=fabric.owner(lab.name))
        for s in lab.segments for n in range(1, count + 1)
    ]  # fmt: skip


def mend(lab: Lab, places: Places) -> None:
    """What a schedule that was cut short has left.  The caller has the lab's lock."""
    if Path(places.faulty).exists():
        found = impairing.wanted(lab, places)
        for end in ends(lab):
            impairing.have(lab, places, end, found[str(end)])
        join(lab, places)
        Path(places.faulty).unlink()
