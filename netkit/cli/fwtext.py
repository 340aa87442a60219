"""Describe what the firewall does for each container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from netkit.client.engine import Json

LABEL = 12  # columns
MOST = 10  # rules of other tools
LOST = "they hold, and netkit fw repair replaces them"
WAITS = "waits until both run"


def lines(found: Json) -> Iterator[str]:
    yield f"firewall: {found.get('Driver', 'none')}"
    if not found["Enforced"]:
        yield "  netkit writes no rules (--iptables=false): nothing is enforced, nothing published"
    if found["Unread"]:
        yield f"  rules of other tools cannot be read, and are not shown: {found['Unread']}"
    for container in found["Containers"]:
        yield ""
        yield from _container(container, enforced=found["Enforced"])


def _container(c: Json, *, enforced: bool) -> Iterator[str]:
    where = ", ".join(f"{_addresses(n)} on {n['Name']}" for n in c["Networks"])
    yield f"{c['Name']} ({where or _elsewhere(c)})"
    if c["Mode"] == "host":
        yield _line("host", "shares the host's network: the host's own firewall counts")
        return
    if not c["Networks"]:
        return
    foreign = [r for r in c["Foreign"] if not r.get("Lost")]
    lost = [r for r in c["Foreign"] if r.get("Lost")]
    yield from _block("rules", _rules(c["Rules"]))
    yield from _block("other tools", [_foreign(r) for r in foreign[:MOST]])
    if len(foreign) > MOST:
        yield _line("", f"and {len(foreign) - MOST} more, see --format json")
    if lost:
        yield _line("netkit's", f"{len(lost)} without their comments: {LOST}")
        yield from _block("", [_foreign(r) for r in lost[:MOST]])
    but = ", but for the rules above" if foreign or _opened(c["Rules"]) else ""
    yield from _block("published", [_published(p, enforced=enforced) for p in c["Published"]])
    linked = [n for n in c["Networks"] if n["Link"]]
    if enforced:
        yield from _block("neighbours", [_neighbours(n, c) for n in linked])
        yield from _block("others", [_others(n) + but for n in linked])
    else:
        yield from _block("neighbours", [_unruled_neighbours(n) for n in linked])
        yield from _block("others", [_unruled(n) for n in linked])


def _addresses(network: Json) -> str:
    all_of_them = network.get("Addresses") or [network["Address"]]
    return " and ".join(filter(None, all_of_them)) or "no address"


def _opened(rules: Sequence[Json]) -> bool:
    return any(r["Verdict"] == "accept" and r["InForce"] for r in rules)


def _foreign(r: Json) -> str:
    return f"{r['Table']} {r['Chain']} {r['Number']} ({r['Tool']}): {r['Text']}"


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
        rest = "" if r["InForce"] else f" ({WAITS if r['Status'] == 'waiting' else r['Status']})"
        out.append(f"{r['Verdict']} {source_of(r)} -> {r['To']}, {port} [{r['Id']}]{rest}")
    return out


def _published(p: Json, *, enforced: bool) -> str:
    if p["HostPort"] and not enforced:
        at = f"{p['HostIp']}:{p['HostPort']}"
        return f"{at} is reserved, and nothing leads from there to {p['Port']}/{p['Proto']}"
    if not p["HostPort"]:
        return f"{p['Port']}/{p['Proto']} at the container's own address (routed)"
    at = f"{p['HostIp']}:{p['HostPort']} -> {p['Port']}/{p['Proto']}"
    if p["HostIp"].startswith("127."):
        return f"{at}, for this host only"
    anywhere = p["HostIp"] in {"", "0.0.0.0"}
    return f"{at}, for every host that reaches {'this host' if anywhere else p['HostIp']}"


def _neighbours(n: Json, c: Json) -> str:
    if n["Icc"]:
        return f"on {n['Name']} reach all its ports (icc)"
    linked = ", ".join(c["LinkedFrom"])
    if linked and n["Name"] == "bridge":
        ports = ", ".join(c["Exposed"]) or "no port"
        return f"on {n['Name']} reach nothing (icc off), but for links: {linked} reaches {ports}"
    return f"on {n['Name']} reach nothing (icc off)"


def _others(n: Json) -> str:
    if n["Mode"] == "bridged":
        return (
            f"by {n['Name']}: the LAN itself: every host on it reaches all ports at {n['Address']}"
            + ("" if n["Filtered"] else f", and no rule sees what {n['Link']} bridges")
        )
    behind = _behind(n)
    if n["Internal"]:
        return f"no host outside {n['Name']} (internal){behind}"
    match n["Mode"]:
        case "isolated":
            return f"by {n['Name']}: no host, as this one has no address on it{behind}"
        case "routed":
            return f"by {n['Name']}: published ports at {n['Address']} (routed){behind}"
        case "nat-unprotected":
            return f"by {n['Name']}: all ports at {n['Address']} (nat-unprotected)"
    never = f"never {n['Address']} itself"
    if n["Trusted"]:
        never = f"at {n['Address']} itself only from {', '.join(n['Trusted'])} (trusted)"
    return f"by {n['Name']}: published ports only, {never}{behind}"


def _behind(n: Json) -> str:
    """List foreign ports of the bridge, which are on the same segment."""
    ports = ", ".join(n["Strangers"])
    if not ports or (n["Filtered"] and not n["Icc"]):
        return ""
    if n.get("Overlay"):
        return f"; but containers of {n['Name']} on other hosts do, on all ports, as neighbours"
    return f"; but hosts behind {ports} of {n['Link']} reach all ports there, as neighbours"


def _unruled_neighbours(n: Json) -> str:
    if n["Icc"]:
        return f"on {n['Name']} reach all its ports (icc)"
    return f"on {n['Name']} are kept apart on the bridge (icc off), but not by way of the host"


def _unruled(n: Json) -> str:
    return f"by {n['Name']}: every host with a route to {n['Address']} reaches all its ports"


def source_of(found: Json, trunc: bool = True) -> str:
    if found["Verdict"] == UNREADABLE and not found["From"]:
        return "?"
    if found["From"]:
        host = found.get("FromHost")
        return f"{host}/{found['From']}" if host else str(found["From"])
    sources = ["anywhere" if s == ANYWHERE else s.removesuffix("/32") for s in found["Sources"]]
    if trunc and len(sources) > MANY:
        return f"{','.join(sources[:MANY])} and {len(sources) - MANY} more"
    return ",".join(sources)


def port_of(found: Json) -> str:
    if found["Verdict"] == UNREADABLE:
        return "?"
    port = found["Port"] or "all"
    return f"host:{port}" if found["Published"] else port


UNREADABLE = "unreadable"  # in place of the verdict, where the daemon cannot read the rule

MANY = 3  # sources shown in a row

ANYWHERE = "0.0.0.0/0"
