"""Inject faults into a lab that is up, and end them.

No fault is part of the desired state: when one ends, links are restored from that, and when a
process that runs a schedule is killed, the next `up` finds its file and restores all links.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from netkit.lab import building, impairing, partitions
from netkit.lab.daemon import LabDaemon
from netkit.lab.links import End, changed_by, chosen, ends
from netkit.lab.model import Lab, Places
from netkit.lab.schedule import Fault
from netkit.model.impairment import TwoWay


class Faults:
    """Those in force.  The caller has the lab's lock."""

    def __init__(self, lab: Lab, places: Places) -> None:
        self.lab, self.places = lab, places
        self._now: list[Fault] = []
        self._links = impairing.wanted(lab, places)  # as they are just now
        self._sides: dict[str, int] = {}  # of hosts; 0: on the segments themselves
        Path(places.faulty).write_text("a schedule runs, or was cut short\n")

    def begin(self, fault: Fault) -> None:
        """KernelError, NotFound."""
        if fault.kind == "daemon":
            LabDaemon(self.places, fault.host).kill()
        self._now.append(fault)
        self._settle()

    def end(self, fault: Fault) -> None:
        self._now.remove(fault)
        if fault.kind == "daemon" and (host := self.lab.host(fault.host)):
            building.revive(self.lab, self.places, host)
        self._settle()

    def close(self) -> None:
        """End the faults that are still in effect."""
        for fault in [*self._now]:
            self.end(fault)
        Path(self.places.faulty).unlink(missing_ok=True)

    def _settle(self) -> None:
        """Have links as all faults in force together make them."""
        links, sides = impairing.wanted(self.lab, self.places), dict[str, int]()
        for fault in self._now:
            if fault.kind == "link":
                links |= changed_by(self.lab, links, chosen(self.lab, fault.link), fault.request)
            elif fault.kind == "partition":
                sides |= {h: n for n, group in enumerate(fault.groups) for h in group}
        before, was = self._links, self._sides
        partitions.split(self.lab, self.places, max(sides.values(), default=0))
        for end in ends(self.lab):
            self._have(end, links, sides, before, was)
        self._links, self._sides = links, sides
        if not sides and was:
            partitions.join(self.lab, self.places)

    def _have(
        self, end: End, links: Mapping[str, TwoWay], sides: Mapping[str, int],
        before: Mapping[str, TwoWay], was: Mapping[str, int],
    ) -> None:  # fmt: skip
        name, host = str(end), end.host.name
        side = sides.get(host, 0)
        if links[name] != before[name] or side != was.get(host, 0):
            impairing.have(self.lab, self.places, end, links[name], side)
