"""lab ui: the page of `netkit ui` with all engines of a lab, its segments, and what labs can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netkit.client.endpoint import parse_host
from netkit.diagnose.trace.join import Trace
from netkit.errors import InvalidSpec, NotFound
from netkit.kernel import netns
from netkit.lab import building, checking, impairing, links, report
from netkit.lab.facts import Facts
from netkit.lab.impairment_request import ImpairmentRequest
from netkit.lab.journal import Journal, only_one
from netkit.lab.model import NETKIT, Lab, LabHost, Places
from netkit.lab.tracing import traced
from netkit.model import impairment
from netkit.ui.source import Source

VERBS = ("up", "check", "down")
IMPAIR = "impair"


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
            "links": [*(s.name for s in self._lab.segments), *map(str, links.ends(self._lab))],
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

    def links(self) -> Mapping[str, Mapping[str, str]]:
        if not self.up:
            return {}
        found = {}
        for end in links.ends(self._lab):
            if netns.exists(self._places.netns(end.host.name)):
                seen = impairing.standing(self._lab, self._places, end)
                impaired = str(seen.wanted) if seen.wanted else ""
                found[str(end)] = {"Impaired": impaired, "Drift": seen.drift}
        return found

    def act(
        self, verb: str, say: Callable[[str], None], given: Mapping[str, Any]
    ) -> Mapping[str, Any]:
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
            case "impair":
                return self._impair(str(given.get("link", "")), str(given.get("words", "")))
        raise InvalidSpec(f"there is {', '.join((*VERBS, IMPAIR))}, not {verb[:40]!r}")

    def _impair(self, link: str, words: str) -> Mapping[str, Any]:
        """As `netkit lab impair LAB LINK --clear`, and then what the words say."""
        if not self.up:
            raise NotFound("it is not up")
        asked = impairment.parsed(words.split())
        found = links.chosen(self._lab, link)
        given = {} if asked.down else impairment.values(asked)
        request = ImpairmentRequest(
            values={name: str(value) for name, value in given.items()},
            down=asked.down or None, clear=True,
        )  # fmt: skip
        with only_one(self._places):
            before = impairing.wanted(self._lab, self._places)
            new = links.changed_by(self._lab, before, found, request)
            impairing.change(self._places, new)
            impairing.settle(self._lab, self._places, links=new.keys())
        return {"Message": f"{link}: {asked}"}

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
