"""lab ui: the page of `netkit ui` with all engines of a lab, its segments, and what labs can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netkit.client.endpoint import parse_host
from netkit.diagnose.trace.join import Trace
from netkit.errors import InvalidSpec, NotFound
from netkit.lab import building, checking, report
from netkit.lab.facts import Facts
from netkit.lab.journal import Journal
from netkit.lab.model import NETKIT, Lab, LabHost, Places
from netkit.lab.tracing import traced
from netkit.ui.source import Source

VERBS = ("up", "check", "down")


def sources(lab: Lab, places: Places) -> list[Source]:
    """Engines of all hosts that have one, also while the lab is not up."""
    return [_source(host, places) for host in lab.hosts if host.daemon is not None]


def _source(host: LabHost, places: Places) -> Source:
    netkit = parse_host(f"unix://{places.socket(host.name)}", None)
    if host.engine == NETKIT:
        return Source(name=host.name, netkit=netkit, engine=netkit)
    other = parse_host(f"unix://{places.engine(host.name)}", None)
    return Source(name=host.name, netkit=netkit, engine=other)


class LabPage:
    """Implements netkit.ui.source.LabControl."""

    def __init__(self, lab: Lab, places: Places) -> None:
        self._lab, self._places = lab, places

    @property
    def name(self) -> str:
        return self._lab.name

    @property
    def up(self) -> bool:
        return Journal(self._places.folder).exists()

    def document(self) -> Mapping[str, Any]:
        return {
            "name": self._lab.name,
            "summary": self._lab.summary,
            "verbs": list(VERBS),
            "segments": [{"name": segment.name} for segment in self._lab.segments],
            "hosts": [_host(host) for host in self._lab.hosts],
            "checks": [str(check) for check in self._lab.checks],
        }

    def trace(self, source: str, target: str, service: str) -> Trace | None:
        facts = Facts(self._lab, self._places)
        name, _, port = target.partition(":")
        if name in facts and port.isdecimal() and not service:  # h1:8080, as checks have it
            target, service = name, port
        if source.partition("@")[0] not in facts or target not in facts:
            return None
        return traced(facts, source, target, service)

    def act(self, verb: str, say: Callable[[str], None]) -> Mapping[str, Any]:
        """InvalidSpec, NotFound and what `netkit lab` raises."""
        match verb:
            case "up":
                fresh = building.up(self._lab, self._places, say)
                return {"Message": "it is up" + ("" if fresh else ", as it was")}
            case "down":
                found = building.down(self._places)
                return {"Message": "it is down" if found else "it is not up"}
            case "check":
                return self._check()
        raise InvalidSpec(f"there is {', '.join(VERBS)}, not {verb[:40]!r}")

    def _check(self) -> Mapping[str, Any]:
        if not self._lab.checks:
            raise NotFound("it has no checks")
        if not self.up:
            raise NotFound("it is not up")
        results = checking.run(Facts(self._lab, self._places), self._lab.checks)
        rows = report.document(self.name, results)["checks"]
        marked = [{**row, "glyph": report.glyph(r)} for row, r in zip(rows, results, strict=True)]
        return {"Message": report.summary(self.name, results), "Checks": marked}


def _host(host: LabHost) -> Mapping[str, Any]:
    return {
        "name": host.name,
        "engine": host.engine if host.daemon is not None else "",
        "interfaces": [
            {"name": i.name, "segment": i.segment, "address": str(i.address or "")}
            for i in host.interfaces
        ],
    }
