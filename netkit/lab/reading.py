"""lab.yml as a Lab: checked against the schema, then for what belongs together."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

from netkit.bootstrap.request import split
from netkit.cli.ports import parse as parse_port
from netkit.errors import InvalidSpec
from netkit.lab import document, ranges, schema
from netkit.lab.checks import MAX_PAIRS, Check, expanded, parse
from netkit.lab.consistency import contradictions
from netkit.lab.document import LabFile
from netkit.lab.model import (
    BUSYBOX,
    NETKIT,
    HostRoute,
    Image,
    Interface,
    Lab,
    LabContainer,
    LabHost,
    LabNetwork,
    Segment,
)
from netkit.lab.scheduling import scheduled
from netkit.model.impairment import TwoWay, both_ways

T = TypeVar("T")
FILE = "lab.yml"
FOREVER = ("sleep", "1000000")  # seconds: the default command of a container


def read(folder: str | Path, name: str = "") -> Lab:
    """The lab in a folder, under the folder's name or another.  Raises LabFile.

    Or that of a file, whose folder is the lab's.
    """
    file = Path(folder) if Path(folder).is_file() else Path(folder) / FILE
    try:
        with file.open("rb") as source:
            data = source.read(document.MAX_BYTES + 1)
    except OSError as error:
        raise LabFile(f"{file}: {error.strerror}: give a folder with a {FILE}") from None
    text = document.decoded(data, str(file))
    return parsed(text, name or file.resolve().parent.name, str(file))


def parsed(text: str, name: str, file: str = FILE) -> Lab:
    """Pure.  `file` is named in messages."""
    doc, lines = document.loaded(text, file)
    origin: Mapping[schema.Path, schema.Path] = {}
    found = schema.problems(doc, schema.lab_schema())
    lab = None
    if not found:
        doc, found, origin = ranges.expanded(doc, lines)
    if not found:
        found, lab = _built(doc, name, str(Path(file).parent.resolve()))
    if not found and lab is not None:
        found = list(contradictions(lab))
    if found or lab is None:
        raise LabFile("\n".join(_messages(file, lines, found, origin)))
    return lab


def _messages(
    file: str, lines: Mapping[schema.Path, int], found: Sequence[schema.Problem],
    origin: Mapping[schema.Path, schema.Path],
) -> Iterator[str]:  # fmt: skip
    """A line for each place of the file: of what a range stands for, the first is named."""
    places: dict[schema.Path, list[schema.Problem]] = {}
    for at, why in dict.fromkeys(found):
        places.setdefault(origin.get(at, at), []).append((at, why))
    for problems in places.values():
        if problems[0][0] in origin:
            more = f" (and so {len(problems) - 1} more)" if problems[1:] else ""
            yield document.message(file, lines, *problems[0]) + more
        else:
            yield from (document.message(file, lines, at, why) for at, why in problems)


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
        segments=tuple(_segment(b, n, s or {}) for n, s in doc.get("underlay", {}).items()),
        images=tuple(_image(b, n, i) for n, i in doc.get("images", {}).items()),
        hosts=hosts,
        checks=checks,
        cluster=tuple(doc.get("cluster", ())),
        ovn=tuple(doc.get("ovn", ())),
    )
    if "schedule" in doc and not b.problems:
        lab, more = scheduled(lab, doc["schedule"])
        b.problems += more
    return b.problems, lab


def _segment(b: _Builder, name: str, d: Mapping[str, Any]) -> Segment:
    """What is sent into it is impaired, so that a packet between two hosts is once."""
    at = ("underlay", name, "impair")
    values = d.get("impair", {})
    found = b.value(both_ways, {k: v for k, v in values.items() if k != "down"}, at) or TwoWay()
    if "down" in values or not values.keys().isdisjoint(("out", "in")):
        why = "out, in and down are an interface's: hosts.NAME.interfaces.NAME.impair"
        b.problems.append((at, why))
    return Segment(name=name, mtu=d.get("mtu"), impair=TwoWay(out=found.out, seed=found.seed))


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
        if len(out) > MAX_PAIRS:
            b.problems.append((at, f"with these there are more than {MAX_PAIRS} pairs: ask fewer"))
            break
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
            _plugged(b, n, i, (*at, "interfaces", n))
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
        engine=d.get("engine", NETKIT),
        weave=tuple(d["weave"]) if "weave" in d else None,
        images=() if daemon is False else tuple(dict.fromkeys(d.get("images", used))),
        networks=tuple(
            _network(b, n, i or {}, (*at, "networks", n)) for n, i in d.get("networks", {}).items()
        ),
        containers=containers,
        firewall=tuple(d.get("firewall", ())),
    )


def _plugged(b: _Builder, name: str, d: Mapping[str, Any], at: schema.Path) -> Interface:
    address = b.value(_interface, d["address"], (*at, "address")) if "address" in d else None
    impair = b.value(both_ways, d["impair"], (*at, "impair")) if "impair" in d else None
    return Interface(name=name, segment=d["segment"], address=address, mac=d.get("mac"),
                     impair=impair)  # fmt: skip


def _network(b: _Builder, name: str, d: Mapping[str, Any], at: schema.Path) -> LabNetwork:
    for key, read in (("subnet", _net), ("ip_range", _net), ("gateway", _address)):
        if key in d:
            b.value(read, d[key], (*at, key))
    return LabNetwork(
        name=name,
        driver=d.get("driver", "bridge"),
        internal=d.get("internal", False),
        options=_options(d.get("options", {})),
        ipam_options=_options(d.get("ipam_options", {})),
        **{key: d[key] for key in ("subnet", "gateway", "ip_range", "scope", "ipam_driver")
           if key in d},
    )  # fmt: skip


def _options(given: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in given.items()
    }


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
