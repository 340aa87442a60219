"""The topology of a lab as text, mermaid and SVG.  Pure, and the same each time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from netkit.lab.model import DEFAULT_NETWORK, Lab, LabContainer, LabHost

FORMATS = ("text", "mermaid", "svg")
BRIDGES = {DEFAULT_NETWORK: "docker0"}


def graph(lab: Lab, format: str) -> str:
    """ValueError for a format there is not."""
    match format:
        case "text":
            return text(lab)
        case "mermaid":
            return mermaid(lab)
        case "svg":
            return svg(lab)
    raise ValueError(f"no format {format!r}: there are {', '.join(FORMATS)}")


def networks(host: LabHost) -> dict[str, list[LabContainer]]:
    """Containers by network; docker0 first, empty networks as well."""
    out: dict[str, list[LabContainer]] = {}
    if host.daemon is not None:
        out[DEFAULT_NETWORK] = []
    out |= {n.name: [] for n in host.networks}
    for c in host.containers:
        for name in c.networks or [DEFAULT_NETWORK]:
            out.setdefault(name, []).append(c)
    if not out.get(DEFAULT_NETWORK, [1]) and len(out) > 1:
        del out[DEFAULT_NETWORK]
    return out


def bridge(host: LabHost, network: str) -> str:
    """The name of a network's bridge on the host: docker0, or that of -b."""
    if network != DEFAULT_NETWORK:
        return network
    flags = list(host.daemon or ())
    for n, flag in enumerate(flags):
        for name in ("--bridge", "-b"):
            if flag.startswith(f"{name}="):
                return flag.partition("=")[2]
            if flag == name and n + 1 < len(flags):
                return flags[n + 1]
    return BRIDGES[network]


# text


def text(lab: Lab) -> str:
    lines = [lab.name + (f": {lab.summary}" if lab.summary else "")]
    for segment in lab.segments:
        lines.append(f"{segment.name} ================")
        for host in lab.hosts:
            for i in host.interfaces:
                if i.segment == segment.name:
                    lines.append(f"  |-- {host.name} {i.name} {i.address or ''}".rstrip())
    for host in lab.hosts:
        flags = " ".join(host.daemon or ())
        kind = "no daemon" if host.daemon is None else f"netkitd {flags}".strip()
        lines.append(f"{host.name} ({kind})")
        for name, members in networks(host).items():
            lines.append(f"  {bridge(host, name)}")
            lines += [f"    |-- {_said(c, name)}" for c in members]
    return "\n".join(lines) + "\n"


def _said(c: LabContainer, network: str) -> str:
    address = c.networks.get(network)
    ports = f" -p {' -p '.join(c.ports)}" if c.ports else ""
    links = f" --link {' --link '.join(c.links)}" if c.links else ""
    return f"{c.name}{f' {address}' if address else ''}{ports}{links}"


# mermaid


def mermaid(lab: Lab) -> str:
    lines = ["graph TD"]
    lines += [f"  seg_{_id(s.name)}[[{_label(s.name)}]]" for s in lab.segments]
    for host in lab.hosts:
        lines.append(f"  subgraph {_word(host.name)}")
        if not networks(host):
            lines.append(f"    {host.name}_self({host.name})")
        for name, members in networks(host).items():
            node = f"{host.name}_{_id(name)}"
            lines.append(f"    {node}{{{{{_label(bridge(host, name))}}}}}")
            for c in members:
                lines.append(f"    {node} --- {_word(c.name)}([{_label(c.name)}])")
        lines.append("  end")
    for host in lab.hosts:
        for i in host.interfaces:
            label = f"{i.name} {i.address}" if i.address else i.name
            lines.append(f"  seg_{_id(i.segment)} ---|{_label(label)}| {_word(host.name)}")
    for host in lab.hosts:
        for c in host.containers:
            for link in c.links:
                lines.append(f"  {_word(c.name)} -.->|link| {_word(link.partition(':')[0])}")
    return "\n".join(lines) + "\n"


def _word(name: str) -> str:
    """A name as the id of a node: `end` is a word of the language."""
    return f"{name}_" if name.lower() == "end" else name


def _label(text: str) -> str:
    """As it is where that means itself, else in quotes, with mermaid's codes for characters."""
    if re.fullmatch(r"[\w .:/-]+", text, re.ASCII) and text.lower() != "end":
        return text
    codes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;"}
    return '"' + "".join(codes.get(ch, ch) for ch in text) + '"'


def _id(name: str) -> str:
    return "".join(ch if ch.isalnum() else "_" for ch in name)


# SVG: segments are lines across the top, hosts boxes below, networks bars, containers boxes

WIDE, GAP, PAD, ROW, LINE = 110, 16, 14, 34, 30  # pixels
FILL = {"host": "#f4f6fb", "bridge": "#cfe3ff", "container": "#e2f4dd", "plain": "#eeeeee"}
STYLE = (
    "text{font:12px sans-serif;fill:#222}rect{stroke:#667;stroke-width:1}"
    "line{stroke:#667;stroke-width:2}.s{stroke:#2a5db0;stroke-width:4}.m{text-anchor:middle}"
)


@dataclass(frozen=True, slots=True)
class Box:
    host: LabHost
    x: int
    width: int
    height: int


def svg(lab: Lab) -> str:
    top = PAD + LINE * max(1, len(lab.segments))
    boxes = list(_boxes(lab))
    width = sum(b.width + GAP for b in boxes) + GAP
    height = top + max(b.height for b in boxes) + 2 * PAD + LINE
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(lab.name)}</title><style>{STYLE}</style>",
    ]
    for n, segment in enumerate(lab.segments):
        y = PAD + n * LINE
        out.append(f'<line class="s" x1="{GAP}" y1="{y}" x2="{width - GAP}" y2="{y}"/>')
        out.append(f'<text x="{GAP}" y="{y + 15}">{escape(segment.name)}</text>')
    for box in boxes:
        out += _drawn(lab, box, top + LINE)
    return "\n".join([*out, "</svg>", ""])


def _boxes(lab: Lab) -> Iterator[Box]:
    x = GAP
    for host in lab.hosts:
        found = networks(host)
        most = max([len(host.interfaces), *(len(m) for m in found.values()), 1])
        width = most * (WIDE + GAP) + GAP + WIDE // 2
        height = LINE + len(found) * (ROW * 2 + GAP) + PAD
        yield Box(host, x, width, height)
        x += width + GAP


def _drawn(lab: Lab, box: Box, y: int) -> Iterator[str]:
    host = box.host
    fill = FILL["plain" if host.daemon is None else "host"]
    yield _rect(box.x, y, box.width, box.height, fill)
    yield f'<text x="{box.x + PAD}" y="{y + 18}">{escape(host.name)}</text>'
    order = [s.name for s in lab.segments]
    for n, i in enumerate(host.interfaces):
        at = box.x + GAP + WIDE // 2 + n * (WIDE + GAP)
        above = PAD + order.index(i.segment) * LINE
        yield f'<line x1="{at}" y1="{above}" x2="{at}" y2="{y}"/>'
        label = f"{i.name} {i.address}" if i.address else i.name
        yield f'<text x="{at + 4}" y="{y - 5}">{escape(label)}</text>'
    down = y + LINE
    for name, members in networks(host).items():
        inner = box.width - 2 * GAP
        yield _rect(box.x + GAP, down, inner, 20, FILL["bridge"])
        middle = box.x + GAP + inner // 2
        label = escape(bridge(host, name))
        yield f'<text class="m" x="{middle}" y="{down + 14}">{label}</text>'
        for n, c in enumerate(members):
            left = box.x + GAP + n * (WIDE + GAP)
            centre = left + WIDE // 2
            yield f'<line x1="{centre}" y1="{down + 20}" x2="{centre}" y2="{down + ROW}"/>'
            yield _rect(left, down + ROW, WIDE, ROW, FILL["container"])
            yield f'<text class="m" x="{centre}" y="{down + ROW + 15}">{escape(c.name)}</text>'
            ports = escape(" ".join(c.ports))
            yield f'<text class="m" x="{centre}" y="{down + ROW + 29}">{ports}</text>'
        down += 2 * ROW + GAP


def _rect(x: int, y: int, width: int, height: int, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}"/>'
