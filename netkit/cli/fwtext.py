"""What the firewall does for each container, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netkit.cli.engine import Json
from netkit.cli.fw import port_of, source_of

LABEL = 12  # columns


def lines(found: Json) -> Iterator[str]:
    driver = found.get("Driver", "none")
    yield f"firewall: {driver}"
    if driver == "none":
        yield "  netkit writes no rules (--iptables=false): nothing is enforced, nothing published"
    for container in found["Containers"]:
        yield ""
        yield from _container(container)


def _container(c: Json) -> Iterator[str]:
    where = ", ".join(f"{n['Address'] or 'no address'} on {n['Name']}" for n in c["Networks"])
    yield f"{c['Name']} ({where or _elsewhere(c)})"
    if c["Mode"] == "host":
        yield _line("host", "shares the host's network: the host's own firewall counts")
        return
    if not c["Networks"]:
        return
    yield from _block("rules", _rules(c["Rules"]))
    yield from _block("published", [_published(p) for p in c["Published"]])
    yield from _block("neighbours", [_neighbours(n, c) for n in c["Networks"]])
    yield from _block("others", [_others(n) for n in c["Networks"]])


def _elsewhere(c: Json) -> str:
    return "not running" if not c["Running"] else f"network {c['Mode']}"


def _block(label: str, texts: Sequence[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield _line(label if number == 0 else "", text)


def _line(label: str, text: str) -> str:
    return f"  {label.ljust(LABEL)}{text}"


def _rules(rules: Sequence[Json]) -> list[str]:
    out = []
    for r in rules:
        port = "all ports" if not r["Port"] else f"port {port_of(r)}"
        rest = "" if r["InForce"] else " (waits until both run)"
        out.append(f"{r['Verdict']} {source_of(r)} -> {r['To']}, {port} [{r['Id']}]{rest}")
    return out


def _published(p: Json) -> str:
    if not p["HostPort"]:
        return f"{p['Port']}/{p['Proto']} at the container's own address (routed)"
    at = f"{p['HostIp']}:{p['HostPort']} -> {p['Port']}/{p['Proto']}"
    if p["HostIp"].startswith("127."):
        return f"{at}, for this host only"
    anywhere = p["HostIp"] in {"", "0.0.0.0"}
    return f"{at}, for everybody who reaches {'this host' if anywhere else p['HostIp']}"


def _neighbours(n: Json, c: Json) -> str:
    if n["Icc"]:
        return f"on {n['Name']} reach all its ports (icc)"
    linked = ", ".join(c["LinkedFrom"])
    if linked and n["Name"] == "bridge":
        ports = ", ".join(c["Exposed"]) or "no port"
        return f"on {n['Name']} reach nothing (icc off), but for links: {linked} reaches {ports}"
    return f"on {n['Name']} reach nothing (icc off)"


def _others(n: Json) -> str:
    if n["Internal"]:
        return f"nobody from outside {n['Name']} (internal)"
    match n["Mode"]:
        case "routed":
            return f"by {n['Name']}: published ports at {n['Address']} (routed)"
        case "nat-unprotected":
            return f"by {n['Name']}: all ports at {n['Address']} (nat-unprotected)"
    return f"by {n['Name']}: published ports only, never {n['Address']} itself"
