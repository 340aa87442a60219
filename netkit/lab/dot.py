"""The topology of a lab in Graphviz' language, for `dot -Tpng`.  Pure, and the same each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netkit.lab.graph import bridge, networks
from netkit.lab.model import Lab, LabHost

STYLE = (
    'graph [fontname="sans-serif"]',
    'node [fontname="sans-serif", shape=box, style=rounded]',
    'edge [fontname="sans-serif", fontsize=10]',
)


def dot(lab: Lab) -> str:
    """Segments, hosts as clusters of their networks and containers, interfaces as edges."""
    lines = [f"graph {quoted(lab.name)} {{", *(f"  {line}" for line in STYLE)]
    for segment in lab.segments:
        name = f"segment {segment.name}"
        lines.append(f"  {_node(name, segment.name, shape='box', style='bold')}")
    for host in lab.hosts:
        lines += (f"  {line}" for line in _host(host))
    for host in lab.hosts:
        for i in host.interfaces:
            label = f"{i.name}\n{i.address}" if i.address else i.name
            ends = f"{quoted(f'segment {i.segment}')} -- {quoted(f'host {host.name}')}"
            lines.append(f"  {ends} [label={quoted(label)}]")
    for host in lab.hosts:
        for c in host.containers:
            for link in c.links:
                target, _, alias = link.partition(":")
                ends = f"{quoted(f'container {c.name}')} -- {quoted(f'container {target}')}"
                lines.append(f"  {ends} [style=dashed, label={quoted(f'link {alias}'.strip())}]")
    return "\n".join([*lines, "}", ""])


def _host(host: LabHost) -> Iterator[str]:
    own = f"host {host.name}"
    yield f"subgraph {quoted(f'cluster {host.name}')} {{"
    yield f"  label={quoted(host.name)}"
    kind = "no daemon" if host.daemon is None else host.engine
    yield f"  {_node(own, kind, shape='ellipse')}"
    for c in host.containers:
        label = "\n".join([c.name, *c.ports])
        yield f"  {_node(f'container {c.name}', label)}"
    for name, members in networks(host).items():
        there = f"network {host.name} {name}"
        yield f"  {_node(there, bridge(host, name), shape='hexagon')}"
        yield f"  {quoted(own)} -- {quoted(there)}"
        for c in members:
            address = c.networks.get(name)
            label = f" [label={quoted(address)}]" if address else ""
            yield f"  {quoted(there)} -- {quoted(f'container {c.name}')}{label}"
    yield "}"


def _node(id: str, label: str, **attributes: str) -> str:
    given: Mapping[str, str] = {"label": quoted(label), **attributes}
    return f"{quoted(id)} [{', '.join(f'{key}={value}' for key, value in given.items())}]"


def quoted(text: str) -> str:
    """A string of the language: quotes and backslashes are escaped, as labels have escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
