"""A lab as parts, each with its description: what is recorded when it was applied.  Pure.

    ["segment", "lan"]              ["host", "h1"]                what a host cannot change in place
    ["interface", "h1", "eth0"]     ["routes", "h1"]              ["sysctls", "h1"]
    ["daemon", "h1"]                ["image", "h1", "busybox"]    ["network", "h1", "back"]
    ["container", "h1", "web"]      ["firewall", "h1"]            ["lab", "cluster"]
    ["impair", "h1", "eth0"]        of an interface, be it by its segment

A new field of a host is part of ["host", NAME], one of the lab a part of its own: a change of what
is not known here is never passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from netkit.lab.model import HostRoute, Interface, Lab, LabHost, Segment
from netkit.model.impairment import both_ways, spelled

Part = tuple[str, ...]
Parts = Mapping[Part, Any]  # to a description, which is JSON

SEGMENT, HOST, INTERFACE, ROUTES, SYSCTLS = "segment", "host", "interface", "routes", "sysctls"
DAEMON, IMAGE, NETWORK, CONTAINER = "daemon", "image", "network", "container"
FIREWALL, LAB, IMPAIR = "firewall", "lab", "impair"
WIRES = frozenset({SEGMENT, INTERFACE, ROUTES, SYSCTLS})
ORDERED = frozenset({"networks"})  # of a container: the first has the default route
# Of a host, what has parts of its own; `daemon` in part: whether there is one is the host's.
_OWN = frozenset(
    {"name", "interfaces", "routes", "sysctls", "daemon", "images", "networks", "containers",
     "firewall"}
)  # fmt: skip
# Of a lab: not of what runs.
_NOT_RUNNING = frozenset({"name", "folder", "summary", "checks", "schedule"})


def parts(lab: Lab, daemons: Mapping[str, Sequence[str]]) -> Parts:
    """`daemons`: flags of each netkitd, as it is started."""
    return dict(_parts(lab, daemons))


def _parts(lab: Lab, daemons: Mapping[str, Sequence[str]]) -> Iterator[tuple[Part, Any]]:
    for field in fields(lab):
        if field.name not in {*_NOT_RUNNING, "segments", "images", "hosts"}:
            yield (LAB, field.name), encoded(getattr(lab, field.name))
    for segment in lab.segments:
        yield (SEGMENT, segment.name), _named(segment, but=IMPAIR)
    for host in lab.hosts:
        yield from _host(lab, host, daemons)


def _host(
    lab: Lab, host: LabHost, daemons: Mapping[str, Sequence[str]]
) -> Iterator[tuple[Part, Any]]:
    own = {f.name: encoded(getattr(host, f.name)) for f in fields(host) if f.name not in _OWN}
    yield (HOST, host.name), own | {"netkitd": host.daemon is not None}
    for interface in host.interfaces:
        yield (INTERFACE, host.name, interface.name), _named(interface, but=IMPAIR)
        way = interface.impair
        if way is None:
            way = next((s.impair for s in lab.segments if s.name == interface.segment), None)
        if way:
            yield (IMPAIR, host.name, interface.name), spelled(way)
    yield (ROUTES, host.name), [[str(r.dst), str(r.gateway)] for r in host.routes]
    yield (SYSCTLS, host.name), encoded(host.sysctls)
    if host.daemon is not None:
        yield (DAEMON, host.name), list(daemons[host.name])
    for name in host.images:
        yield (IMAGE, host.name, name), _named(lab.image(name))
    for network in host.networks:
        yield (NETWORK, host.name, network.name), _named(network)
    for container in host.containers:
        yield (CONTAINER, host.name, container.name), _named(container)
    yield (FIREWALL, host.name), list(host.firewall)


def _named(thing: Any, but: str = "") -> dict[str, Any]:
    """Without its name, which is the part's, and the field `but`."""
    return {
        f.name: encoded(getattr(thing, f.name), ordered=f.name in ORDERED)
        for f in fields(thing) if f.name not in {"name", but}
    }  # fmt: skip


def encoded(value: Any, *, ordered: bool = False) -> Any:
    """JSON of it.  Mappings whose order means nothing are sorted."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: encoded(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        pairs = [[str(key), encoded(inner)] for key, inner in value.items()]
        return pairs if ordered else sorted(pairs, key=lambda pair: str(pair[0]))
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, IPv4Address | IPv4Interface | IPv4Network):
        return str(value)
    return [encoded(inner) for inner in value]


def wired(name: str, found: Parts) -> Lab:
    """The lab of these parts, as far as its wires go."""
    inner: dict[str, list[Interface]] = {}
    for part, value in found.items():
        if part[0] == INTERFACE:
            address = value["address"]
            way = found.get((IMPAIR, *part[1:]))
            more = {
                **value, "address": IPv4Interface(address) if address else None,
                "impair": both_ways(way) if way else None,
            }  # fmt: skip
            inner.setdefault(part[1], []).append(Interface(name=part[2], **more))
    hosts = [part[1] for part in found if part[0] == HOST]
    return Lab(
        name=name,
        segments=tuple(
            Segment(name=p[1], **value) for p, value in found.items() if p[0] == SEGMENT
        ),
        hosts=tuple(
            LabHost(
                name=host,
                interfaces=tuple(inner.get(host, ())),
                routes=tuple(
                    HostRoute(dst=IPv4Network(dst), gateway=IPv4Address(gateway))
                    for dst, gateway in found.get((ROUTES, host), ())
                ),
                sysctls=dict(found.get((SYSCTLS, host), ())),
            )
            for host in hosts
        ),
    )


def host_of(part: Part) -> str:
    """The host it belongs to; "" if it is the lab's."""
    return part[1] if part[0] not in {SEGMENT, LAB} else ""


def titled(part: Part) -> str:
    """For people: "container web of h1"."""
    kind, *names = part
    match kind, names:
        case ("routes" | "sysctls" | "daemon" | "firewall"), [host]:
            return f"{'netkitd' if kind == DAEMON else kind} of {host}"
        case _, [name]:
            return f"{kind} {name}"
        case "impair", [host, name]:
            return f"impairment of {host}@{name}"
        case _, [host, name]:
            return f"{kind} {name} of {host}"
    raise ValueError(part)
