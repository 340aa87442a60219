"""A lab that is being imported: what it will have, and what could not be carried over.  Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import pairwise
from typing import Any

import yaml

from netkit.lab.consistency import RESERVED
from netkit.lab.document import LabFile
from netkit.lab.ranges import MAX_MEMBERS

MAX_CHECKS = 300  # that an import makes up
MAX_SEGMENTS = 4000
MAX_COMMANDS = 20_000  # of all nodes; those of defaults count for each
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd]")
MAX_WORDS = 200  # characters of a value that is quoted


def clean(text: str) -> str:
    """In one line, and without control characters: fit for a comment and a terminal."""
    shown = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)
    return shown if len(shown) <= MAX_WORDS else f"{shown[:MAX_WORDS]}..."


@dataclass(slots=True, kw_only=True)
class Wired:
    """A host without an engine: interfaces on segments, addresses, routes."""

    name: str
    interfaces: dict[str, dict[str, str]] = field(default_factory=dict)
    routes: dict[IPv4Network, tuple[IPv4Address, str]] = field(default_factory=dict)  # via, where
    sysctls: dict[str, int] = field(default_factory=dict)
    setup: list[str] = field(default_factory=list)
    subnets: list[IPv4Network] = field(default_factory=list)  # of second addresses

    def reaches(self, gateway: IPv4Address) -> bool:
        return self._at_once(gateway) or any(gateway in net for net in self.subnets)

    def _at_once(self, gateway: IPv4Address) -> bool:
        """By the address of an interface, not one that a command adds."""
        own = [i["address"] for i in self.interfaces.values() if "address" in i]
        return any(gateway in IPv4Interface(address).network for address in own)

    def document(self) -> dict[str, Any]:
        out: dict[str, Any] = {"daemon": False}
        if self.interfaces:
            out["interfaces"] = self.interfaces
        routes = {f"{'default' if dst.prefixlen == 0 else dst} via {via}": self._at_once(via)
                  for dst, (via, _) in self.routes.items()}  # fmt: skip
        later = [f"ip route add {route}" for route, at_once in routes.items() if not at_once]
        if found := [route for route, at_once in routes.items() if at_once]:
            out["routes"] = found
        if self.sysctls:
            out["sysctls"] = self.sysctls
        if self.setup or later:
            out["setup"] = [*self.setup, *later]
        return out


@dataclass(slots=True, kw_only=True)
class Draft:
    source: str  # the file or folder it comes from
    kind: str  # the tool's name
    summary: str = ""
    segments: dict[str, int | None] = field(default_factory=dict)  # to the MTU in bytes
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    wired: dict[str, Wired] = field(default_factory=dict)  # by the name it had
    engine: dict[str, Any] | None = None  # the one host with an engine, where there is one
    checks: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    omitted: list[str] = field(default_factory=list)
    _commands: int = 0
    names: set[str] = field(default_factory=lambda: set(RESERVED))

    def omit(self, place: str, why: str) -> None:
        """`place`: FILE:LINE: WHAT."""
        self._note(self.omitted, f"{place}: {why}")

    def change(self, place: str, how: str) -> None:
        self._note(self.changed, f"{place}: {how}")

    @staticmethod
    def _note(notes: list[str], line: str) -> None:
        line = clean(line)
        if line not in notes[-50:]:
            notes.append(line)

    def name(self, wanted: str, place: str, *, longest: int = 12, shortest: int = 1) -> str:
        """A name of ours for a host or container that had another, each once."""
        base = re.sub(r"[^a-z0-9_]", "_", wanted.lower()).lstrip("_0123456789").rstrip("_")
        base = base if len(base) >= shortest else f"node{base}"
        found = unique(base, self.names, longest)
        if found != wanted:
            self.change(place, f"is called {found} here")
        return self.add(found, place)

    def add(self, name: str, place: str) -> str:
        if len(self.names) >= MAX_MEMBERS:
            raise LabFile(f"{place}: there are more than {MAX_MEMBERS} names: a lab has no more")
        self.names.add(name)
        return name

    def count(self, place: str) -> None:
        """One more command is looked at."""
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            raise LabFile(f"{place}: there are more than {MAX_COMMANDS} commands, of all nodes")

    def segment(self, wanted: str, mtu: int | None = None) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-").lstrip("0123456789-")
        if len(self.segments) >= MAX_SEGMENTS:
            raise LabFile(f"{self.source}: there are more than {MAX_SEGMENTS} links")
        found = unique(base or "lan", self.segments, 15, joint="-")
        self.segments[found] = mtu
        return found

    def finish(self) -> None:
        """Routes that no interface leads to are left out; checks say what is on one segment."""
        if not self.wired:
            raise LabFile(f"{self.source}: none of its nodes becomes a host")
        self._one_address_each()
        for host in self.wired.values():
            for dst, (via, place) in list(host.routes.items()):
                if not host.reaches(via):
                    self.omit(place, f"no interface of {host.name} reaches {via}")
                    del host.routes[dst]
        self.checks += list(self._neighbours())[:MAX_CHECKS]

    def _one_address_each(self) -> None:
        taken: dict[tuple[str, str], str] = {}
        for host in self.wired.values():
            for name, i in host.interfaces.items():
                if "address" not in i:
                    continue
                key = i["segment"], i["address"].partition("/")[0]
                if key in taken:
                    what = f"{self.source}: {i['address']} of {host.name} {name}"
                    self.omit(what, f"is {taken[key]}'s on the same segment already")
                    del i["address"]
                taken.setdefault(key, host.name)

    def _neighbours(self) -> Iterator[str]:
        by_net: dict[tuple[str, IPv4Network], list[tuple[str, str]]] = {}
        for host in self.wired.values():
            for name, i in host.interfaces.items():
                if "address" in i and f"ip link set {name} down" not in host.setup:
                    key = i["segment"], IPv4Interface(i["address"]).network
                    by_net.setdefault(key, []).append((host.name, name))
        for members in by_net.values():
            for (one, _), (other, where) in pairwise(members):
                if one != other:
                    yield f"{one} -> {other}@{where} icmp ok"

    def document(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.summary:
            out["summary"] = clean(self.summary)
        if self.segments:
            out["underlay"] = {n: {"mtu": m} if m else {} for n, m in self.segments.items()}
        if self.images:
            out["images"] = self.images
        out["hosts"] = {host.name: host.document() for host in self.wired.values()}
        if self.engine is not None:
            out["hosts"]["h1"] = self.engine
        if self.checks:
            out["checks"] = self.checks
        return out

    def text(self) -> str:
        """lab.yml, with what was changed and left out as comments at its top."""
        lines = [f"# Imported by netkit lab import from {clean(self.source)} ({self.kind})."]
        for title, notes in (("Changed", self.changed), ("Not carried over", self.omitted)):
            if notes:
                lines += ["#", f"# {title}:", *(f"#   {note}" for note in notes)]
        document = self.document()
        checks = {"checks": document.pop("checks")} if self.checks else {}
        body = yaml.safe_dump(document, sort_keys=False, width=100, default_flow_style=None)
        if checks:  # a line each
            body += yaml.safe_dump(checks, width=100, default_flow_style=False)
        return "\n".join([*lines, body])


def unique(base: str, taken: Container[str], longest: int, joint: str = "") -> str:
    """`base`, cut to a length, with a number behind it where that is taken."""
    found, number = base[:longest].rstrip("-_") or "n", 1
    while found in taken:
        number += 1
        tail = f"{joint}{number}"
        found = f"{base[: longest - len(tail)]}{tail}"
    return found
