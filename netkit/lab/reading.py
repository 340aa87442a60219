"""lab.yml as a Lab: checked against the schema, then for what belongs together."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import yaml

from netkit.bootstrap.request import split
from netkit.cli.ports import parse as parse_port
from netkit.errors import InvalidSpec
from netkit.lab import schema
from netkit.lab.checks import Check, expanded, parse
from netkit.lab.consistency import contradictions
from netkit.lab.model import (
    BUSYBOX,
    HostRoute,
    Image,
    Interface,
    Lab,
    LabContainer,
    LabHost,
    LabNetwork,
    Segment,
)

T = TypeVar("T")
FILE = "lab.yml"
LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_DEPTH = 30  # levels; an alias within what it stands for would have no end
MAX_VALUES = 100_000  # with aliases of aliases a page of text stands for any number
FOREVER = ("sleep", "1000000")  # seconds: the default command of a container


class LabFile(InvalidSpec):
    """lab.yml is wrong: a line for each problem, with its place in the file."""


class _TooLarge(Exception):
    """LINE: what of the document is beyond its bound."""


def read(folder: str | Path, name: str = "") -> Lab:
    """The lab in a folder, under the folder's name or another.  Raises LabFile."""
    file = Path(folder) / FILE
    try:
        text = file.read_text()
    except OSError as error:
        raise LabFile(f"{file}: {error.strerror}: give a folder with a {FILE}") from None
    return parsed(text, name or Path(folder).resolve().name, str(file))


def parsed(text: str, name: str, file: str = FILE) -> Lab:
    """Pure.  `file` is named in messages."""
    document, lines = _loaded(text, file)
    found = schema.problems(document, schema.lab_schema())
    lab = None
    if not found:
        found, lab = _built(document, name, str(Path(file).parent.resolve()))
    if not found and lab is not None:
        found = list(contradictions(lab))
    if found or lab is None:
        raise LabFile("\n".join(_message(file, lines, at, why) for at, why in found))
    return lab


def _message(file: str, lines: Mapping[schema.Path, int], at: schema.Path, why: str) -> str:
    known = at
    while known not in lines and known:
        known = known[:-1]
    place = schema.dotted(at)
    return f"{file}:{lines.get(known, 1)}: {place + ': ' if place else ''}{why}"


def _loaded(text: str, file: str) -> tuple[object, Mapping[schema.Path, int]]:
    try:
        node = yaml.compose(text, Loader=LOADER)
        document = yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error)
        raise LabFile(f"{file}{where}: not YAML: {why}") from None
    lines: dict[schema.Path, int] = {}
    try:
        twice = list(_walk(node, (), lines)) if node is not None else []
    except _TooLarge as error:
        raise LabFile(f"{file}:{error}") from None
    if twice:
        raise LabFile("\n".join(f"{file}:{line}: {why}" for line, why in twice))
    return document, lines


def _walk(
    node: yaml.Node, at: schema.Path, lines: dict[schema.Path, int]
) -> Iterator[tuple[int, str]]:
    """Note every line; report keys that are given twice, of which YAML would drop one."""
    lines.setdefault(at, node.start_mark.line + 1)
    if len(at) > MAX_DEPTH:
        raise _TooLarge(f"{lines[at]}: nested more than {MAX_DEPTH} levels deep")
    if len(lines) > MAX_VALUES:
        raise _TooLarge(f"{lines[at]}: more than {MAX_VALUES} values, aliases included")
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _walk(item, (*at, number), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, inner in node.value:
            path = (*at, str(key.value))
            line = key.start_mark.line + 1
            if path in lines:
                yield line, f"{schema.dotted(path)} is given twice, first in line {lines[path]}"
            lines[path] = line
            yield from _walk(inner, path, lines)


class _Builder:
    """Values from a document that fits the schema; problems are collected, not raised."""

    def __init__(self) -> None:
        self.problems: list[schema.Problem] = []
        self.running: frozenset[str] = frozenset()  # images with a command

    def value(self, make: Callable[[Any], T], given: object, at: schema.Path) -> T | None:
        try:
            return make(given)
        except (ValueError, InvalidSpec) as bad:
            self.problems.append((at, str(bad)))
            return None


def _built(doc: Any, name: str, folder: str) -> tuple[list[schema.Problem], Lab]:
    b = _Builder()
    b.running = frozenset(
        n
        for n, i in doc.get("images", {}).items()
        if any(c.split()[:1] in (["CMD"], ["ENTRYPOINT"]) for c in i.get("changes", ()))
    )
    hosts = tuple(
        _host(b, each, inner or {}, ("hosts", each)) for each, inner in doc["hosts"].items()
    )
    checks = _checks(b, doc.get("checks", []), hosts)
    lab = Lab(
        name=name,
        folder=folder,
        summary=doc.get("summary", ""),
        segments=tuple(
            Segment(name=n, mtu=(s or {}).get("mtu")) for n, s in doc.get("underlay", {}).items()
        ),
        images=tuple(_image(b, n, i) for n, i in doc.get("images", {}).items()),
        hosts=hosts,
        checks=checks,
        cluster=tuple(doc.get("cluster", ())),
    )
    return b.problems, lab


def _image(b: _Builder, name: str, d: Mapping[str, Any]) -> Image:
    at = ("images", name)
    if "bootstrap" in d:
        b.value(split, d["bootstrap"], (*at, "bootstrap"))
        if "files" in d:
            b.problems.append(((*at, "files"), "files are of busybox, not of what is bootstrapped"))
    elif wrong := [key for key in ("include", "packages") if key in d]:
        b.problems.append(((*at, wrong[0]), "give bootstrap, too: packages of which suite?"))
    return Image(
        name=name, files=d.get("files", {}), changes=tuple(d.get("changes", ())),
        bootstrap=d.get("bootstrap", ""), include=tuple(d.get("include", ())),
        packages=tuple(d.get("packages", ())),
    )  # fmt: skip


def _checks(b: _Builder, lines: Sequence[str], hosts: Sequence[LabHost]) -> tuple[Check, ...]:
    containers = [c.name for h in hosts for c in h.containers]
    names = [h.name for h in hosts]
    out: list[Check] = []
    for number, line in enumerate(lines):
        at = ("checks", number)
        check = b.value(parse, line, at)
        if check is not None:
            out += b.value(lambda c: expanded(c, containers, names), check, at) or []
    return tuple(dict.fromkeys(out))


def _host(b: _Builder, name: str, d: Mapping[str, Any], at: schema.Path) -> LabHost:
    daemon = d.get("daemon", [])
    containers = tuple(
        _container(b, n, c or {}, (*at, "containers", n))
        for n, c in d.get("containers", {}).items()
    )
    used = [BUSYBOX, *(c.image for c in containers)]
    return LabHost(
        name=name,
        interfaces=tuple(
            Interface(
                name=n,
                segment=i["segment"],
                address=b.value(_interface, i["address"], (*at, "interfaces", n, "address"))
                if "address" in i
                else None,
                mac=i.get("mac"),
            )
            for n, i in d.get("interfaces", {}).items()
        ),
        routes=tuple(
            route
            for n, text in enumerate(d.get("routes", ()))
            if (route := b.value(_route, text, (*at, "routes", n)))
        ),
        sysctls={n: str(v) for n, v in d.get("sysctls", {}).items()},
        setup=tuple(d.get("setup", ())),
        ovs=d.get("ovs", False) is not False,
        ovs_tso=not isinstance(ovs := d.get("ovs"), dict) or ovs.get("tso", True),
        daemon=None if daemon is False else () if daemon is True else tuple(daemon),
        weave=tuple(d["weave"]) if "weave" in d else None,
        images=() if daemon is False else tuple(dict.fromkeys(d.get("images", used))),
        networks=tuple(
            _network(b, n, i or {}, (*at, "networks", n)) for n, i in d.get("networks", {}).items()
        ),
        containers=containers,
        firewall=tuple(d.get("firewall", ())),
    )


def _network(b: _Builder, name: str, d: Mapping[str, Any], at: schema.Path) -> LabNetwork:
    for key, read in (("subnet", _net), ("ip_range", _net), ("gateway", _address)):
        if key in d:
            b.value(read, d[key], (*at, key))
    flags = [
        f"--{key.replace('_', '-')}={d[key]}" for key in ("subnet", "gateway", "ip_range", "scope")
        if key in d
    ]  # fmt: skip
    if d.get("internal"):
        flags.append("--internal")
    for key, value in d.get("options", {}).items():
        text = str(value).lower() if isinstance(value, bool) else value
        flags.append(f"--opt={key}={text}")
    return LabNetwork(
        name=name,
        driver=d.get("driver", "bridge"),
        flags=tuple(flags),
        shared=d.get("scope") == "global",
    )


def _container(b: _Builder, name: str, d: Mapping[str, Any], at: schema.Path) -> LabContainer:
    command = d.get("command", () if d.get("image", BUSYBOX) in b.running else FOREVER)
    words = b.value(shlex.split, command, (*at, "command")) if isinstance(command, str) else command
    networks = d.get("networks", [])
    if isinstance(networks, list):
        networks = dict.fromkeys(networks)
    for network, address in networks.items():
        if address is not None:
            read = IPv4Interface if "/" in address else _address
            b.value(read, address, (*at, "networks", network))
    for number, port in enumerate(d.get("ports", ())):
        b.value(parse_port, str(port), (*at, "ports", number))
    return LabContainer(
        name=name,
        image=d.get("image", BUSYBOX),
        command=tuple(words or ()),
        networks=networks,
        ports=tuple(str(p) for p in d.get("ports", ())),
        links=tuple(d.get("links", ())),
        flags=tuple(d.get("flags", ())),
    )


def _interface(text: str) -> IPv4Interface:
    if "/" not in text:
        raise ValueError(f"{text!r} lacks its prefix length: write {text}/24")
    return IPv4Interface(text)


def _net(text: str) -> IPv4Network:
    return IPv4Network(text)


def _address(text: str) -> IPv4Address:
    return IPv4Address(text)


def _route(text: str) -> HostRoute:
    dst, gateway = text.split(" via ")
    return HostRoute(
        dst=IPv4Network("0.0.0.0/0" if dst == "default" else dst), gateway=IPv4Address(gateway)
    )
