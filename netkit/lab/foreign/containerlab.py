"""A topology of containerlab (*.clab.yml) as a lab: nodes as hosts, links as segments.  Pure.

Keys are those of containerlab's manual, "Topology definition" and "Nodes", and of its schema, as of
0.79.  A node becomes a host without an engine, which runs the programs of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from netkit.lab.document import LabFile
from netkit.lab.foreign import shell
from netkit.lab.foreign.draft import Draft, Wired
from netkit.lab.foreign.origin import Origin, why_not
from netkit.lab.foreign.variables import with_defaults
from netkit.lab.schema import Path

SEGMENTS = frozenset({"bridge", "ovs-bridge"})  # kinds that connect, and are no machines
MAX_INTERFACES = 250  # of a node
PROGRAMS = "hosts here run the programs of this machine, not those of an image"
WHY = {
    "mgmt": "hosts here have no network for management: netkit lab sh and exec reach them",
    "prefix": "hosts are called nk-LAB-HOST",
    "settings": "there is no authority for certificates",
    "debug": "it is of containerlab itself",
    "kinds": "no node is of this kind", "groups": "no node is in this group",
    **dict.fromkeys(
        ("image", "image-pull-policy", "license", "type", "startup-config", "cmd", "entrypoint",
         "enforce-startup-config", "suppress-startup-config", "components", "credentials", "config",
         "extras", "healthcheck", "env", "env-files", "user"), PROGRAMS,
    ),
    **dict.fromkeys(
        ("binds", "volumes", "tmpfs"), "hosts here have the files of this machine",
    ),
    **dict.fromkeys(
        ("ports", "mgmt-ipv4", "mgmt-ipv6", "network-mode", "aliases", "dns"),
        "hosts here have no network for management",
    ),
    **dict.fromkeys(("startup-delay", "stages"), "all hosts start at once, and no program in them"),
    **dict.fromkeys(
        ("cpu", "memory", "cpu-set", "shm-size", "cap-add", "privileged", "cgroupns-mode",
         "cgroup-parent", "pid-mode", "security-opts", "devices", "runtime", "restart-policy",
         "auto-remove", "link-apply-mode"), "hosts here are network namespaces, not containers",
    ),
    "hostname": "a host is called as in this lab",
    "labels": "hosts and links here have no labels",
    "certificate": "there is no authority for certificates",
    "exec": "a bridge runs no commands", "sysctls": "a bridge has no settings",
    "vars": "there are no templates", "ipv6": shell.NO_IPV6,
}  # fmt: skip
_NODE = ("topology", "nodes")


def read(text: str, file: str) -> Draft:
    """Raises LabFile where the file is none of containerlab's."""
    if "{{" in text:
        raise LabFile(f"{file}: is a Go template: give the file that it renders to")
    draft = Draft(source=file, kind="containerlab")
    origin = Origin(with_defaults(text, lambda why: draft.change(file, why)), file)
    draft.summary = str(origin.use("name") or "")
    reader = _Reader(origin, draft)
    reader.nodes()
    for number in range(len(origin.items("topology", "links"))):
        reader.link(number)
    reader.settings()
    reader.rest()
    draft.finish()
    return draft


class _Reader:
    def __init__(self, origin: Origin, draft: Draft) -> None:
        self.origin, self.draft = origin, draft
        self.bridges: dict[str, str] = {}  # node to segment
        self._origins: dict[str, list[Path]] = {}  # node to the places its settings are at

    def nodes(self) -> None:
        self.origin.mapping("topology")
        found = self.origin.mapping(*_NODE)
        if not found:
            raise LabFile(self.origin.message(_NODE, "there are no nodes: what is to be imported?"))
        for name in found:
            at: Path = (*_NODE, name)
            self.origin.mapping(*at)
            self._origins[name] = list(self._levels(at))
            kind = self._setting(name, "kind")
            kind = kind if isinstance(kind, str) else "linux"
            place = self.origin.place(at)
            if kind in SEGMENTS:
                self.bridges[name] = self.draft.segment(name)
                if self.bridges[name] != name:
                    self.draft.change(place, f"is the segment {self.bridges[name]} here")
                continue
            if kind in {"host", "ext-container"}:
                self.origin.use(*at)
                self.draft.omit(place, f"kind {kind}: a lab does not touch what is outside of it")
                continue
            if kind != "linux":
                where = self.origin.place((*at, "kind") if self.origin.at(*at, "kind") else at)
                self.draft.omit(where, f"kind {kind}: a plain host is in its place")
            self.draft.wired[name] = Wired(name=self.draft.name(name, place))

    def _levels(self, at: Path) -> Iterator[Path]:
        """The places of a node's settings: its own, its group's, its kind's, the defaults."""
        yield at
        group = self.origin.use(*at, "group")
        if isinstance(group, str) and group in self.origin.mapping("topology", "groups"):
            yield ("topology", "groups", group)
        elif group is not None:
            self.draft.omit(self.origin.place((*at, "group")), f"there is no group {group}")
        kind = self.origin.at(*at, "kind")
        if kind is None and isinstance(group, str):
            kind = self.origin.at("topology", "groups", group, "kind")
        kind = kind or self.origin.at("topology", "defaults", "kind")
        if isinstance(kind, str) and kind in self.origin.mapping("topology", "kinds"):
            yield ("topology", "kinds", kind)
        yield ("topology", "defaults")

    def _setting(self, node: str, key: str) -> Any:
        """Of the nearest level; those of all are dealt with."""
        found = [self.origin.use(*at, key) for at in self._origins[node]
                 if key in self.origin.mapping(*at)]  # fmt: skip
        return found[0] if found else None

    # links

    def link(self, number: int) -> None:
        at: Path = ("topology", "links", number)
        self.origin.mapping(*at)
        kind = self.origin.use(*at, "type")
        if kind not in (None, "veth"):  # it may be a list
            self.origin.use(*at)
            self.draft.omit(self.origin.place(at), f"a link of type {kind} leads out of the lab")
            return
        ends = [self._end(at, n) for n in range(len(self.origin.items(*at, "endpoints")))]
        if len(ends) != 2 or not all(end[0] for end in ends):
            raise LabFile(self.origin.message(at, 'needs two endpoints: ["a:eth1", "b:eth1"]'))
        (one, _, _), (other, _, _) = ends
        for node, _, where in ends:
            if node not in self.draft.wired and node not in self.bridges:
                self.origin.use(*at)
                known = node in self._origins or node in {"host", "mgmt-net", "macvlan"}
                why = "leads out of the lab" if known else "names no node"
                self.draft.omit(self.origin.place(where), f"{node}: {why}")
                return
        self._join(at, self._segment(at, one, other), ends)

    def _end(self, at: Path, number: int) -> tuple[str, str, Path]:
        """Node, interface, and where they stand."""
        where = (*at, "endpoints", number)
        given = self.origin.at(*where)
        if isinstance(given, dict):
            self.origin.mapping(*where)
            node, interface = (self.origin.use(*where, key) for key in ("node", "interface"))
            return str(node or ""), str(interface or ""), where
        node, _, interface = str(self.origin.use(*where)).partition(":")
        return node if interface else "", interface, where

    def _segment(self, at: Path, one: str, other: str) -> str:
        mtu = self.origin.use(*at, "mtu")
        fits = isinstance(mtu, int) and 68 <= mtu <= 65535
        if mtu is not None and not fits:
            self.draft.omit(self.origin.place((*at, "mtu")), f"{mtu} is no MTU")
        bridges = [self.bridges[node] for node in (one, other) if node in self.bridges]
        if len(bridges) == 2:
            self.draft.omit(self.origin.place(at), "a link between two bridges")
        if not bridges:
            name = f"{one}-{other}"
            plain = name if len(name) <= 15 else f"link-{at[-1]}"
            return self.draft.segment(plain, mtu if fits else None)
        if fits:
            self.draft.segments[bridges[0]] = min(mtu, self.draft.segments[bridges[0]] or mtu)
        return bridges[0]

    def _join(self, at: Path, segment: str, ends: list[tuple[str, str, Path]]) -> None:
        for number, (node, wanted, where) in enumerate(ends):
            given = self.origin.use(*at, "ipv4", number) if self._has(at, "ipv4") else None
            if isinstance(self.origin.at(*where), dict):
                given = self.origin.use(*where, "ipv4") or given
            if node not in self.draft.wired:  # a port of a bridge has a name of no use
                self._told("a bridge has no address here" if given else "", where)
                continue
            host = self.draft.wired[node]
            name = self._interface(host, wanted, where)
            host.interfaces[name] = {"segment": segment}
            if isinstance(self.origin.at(*where), dict) and (mac := self.origin.use(*where, "mac")):
                self._told(shell.carry(host, f"ip link set {name} address {mac}", ""), where)
            if given:
                why = shell.carry(host, f"ip addr add {given} dev {name}", "")
                self._told(why, where)

    def _has(self, at: Path, key: str) -> bool:
        return bool(self.origin.items(*at, key))

    def _told(self, why: str, at: Path) -> None:
        if why:
            self.draft.omit(self.origin.place(at), why)

    def _interface(self, host: Wired, wanted: str, where: Path) -> str:
        if len(host.interfaces) >= MAX_INTERFACES:
            why = f"{host.name} has more than {MAX_INTERFACES} interfaces"
            raise LabFile(self.origin.message(where, why))
        base = re.sub(r"[^a-z0-9.]+", ".", wanted.lower()).strip(".").lstrip("0123456789.") or "eth"
        name, number = base[:15], 1
        while name in host.interfaces:
            number += 1
            name = f"{base[: 14 - len(str(number))]}.{number}"
        if name != wanted:
            self.draft.change(self.origin.place(where), f"the interface is {name} of {host.name}")
        return name

    # what nodes do

    def settings(self) -> None:
        for node, host in self.draft.wired.items():
            for level in reversed(self._origins[node]):
                for number, line in enumerate(self.origin.items(*level, "exec")):
                    self.origin.use(*level, "exec", number)
                    self._exec(host, node, str(line), (*level, "exec", number))
                for key in self.origin.mapping(*level, "sysctls"):
                    value = str(self.origin.use(*level, "sysctls", key))
                    try:
                        shell.setting(host, key, value)
                    except shell.NotCarried as why:
                        self._told(str(why), (*level, "sysctls", key))

    def _exec(self, host: Wired, node: str, line: str, at: Path) -> None:
        line = line.replace("__clabNodeName__", node)
        for command in shell.commands(line):
            place = f"{self.origin.place(at)}: {command}"
            self.draft.count(place)
            if why := shell.carry(host, command, place):
                self.draft.omit(place, why)

    def rest(self) -> None:
        for at, tag in self.origin.tags:
            self.draft.omit(self.origin.place(at), f"the tag {tag}")
        for at in self.origin.unused():
            self.draft.omit(self.origin.shown(at), why_not(at, WHY))
