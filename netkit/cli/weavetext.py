"""The overlay's status as weave prints it, line by line.  Pure.

Takes plugins/weave/status.py as JSON: the "Status" of GET /netkit/weave, "overlay" of a report.
"""

from __future__ import annotations

from collections import Counter

from netkit.cli import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Json = Mapping[str, Any]

SHOWN = 12  # digits of an id
DOMAIN = "weave.local."
ESTABLISHED = "established"


MOST = 20  # problems of a network that are shown


def printable(found: Any) -> Any:
    """Return an answer of the daemon whose texts do nothing to a terminal: peers choose them."""
    match found:
        case str():
            return human.printable(found)
        case dict():
            return {key: printable(each) for key, each in found.items()}
        case list():
            return [printable(each) for each in found]
    return found


def peer(id: str, name: str) -> str:
    """ "0a1b2c3d4e5f(h1)", as weave has its peers' names."""
    return f"{id[:SHOWN]}({name})"


def summary(found: Json) -> str:
    """`weave status`, of all that GET /netkit/weave answers."""
    status, process = found["Status"], found.get("Process") or {}
    sections: list[list[tuple[str, object]]] = [
        [("Version", status["software"])],
        _router(status),
        _ipam(status["ipam"], found.get("DefaultSubnet") or ""),
        [("Service", "dns"), ("Domain", DOMAIN), ("Entries", _entries(status))],
        [("Service", "plugin"), ("DriverName", "weave"), ("Networks", _networks(status))],
    ]
    problems: list[tuple[str, object]] = [
        *(("Warning", each) for each in found.get("Warnings") or ()),
        *(("Warning", each) for each in status.get("warnings") or ()),
        *(("Problem", f"network {net['name']}: {each}: give one of the two another address")
          for net in status["networks"] for each in net["conflicts"][:MOST]),
        *(("Problem", each) for each in process.get("problems") or ()),
    ]  # fmt: skip
    return "\n\n".join(_section(each) for each in [*sections, problems] if each)


def _section(rows: Iterable[tuple[str, object]]) -> str:
    return "\n".join(f"{key:>15}: {value}" for key, value in rows)


def _router(status: Json) -> list[tuple[str, object]]:
    states = Counter(each["state"] for each in status["connections"])
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    connections = str(states.total()) + (f" ({counts})" if counts else "")
    peers = [each for each in status["peers"] if each["state"] != "dead"]
    dead = len(status["peers"]) - len(peers)
    links = sum(len(each["links"]) for each in peers)
    rows: list[tuple[str, object]] = [
        ("Service", "router"), ("Protocol", f"weave {status['protocol']}"),
        ("Name", peer(status["id"], status["name"])),
        ("Encryption", "enabled" if status["encryption"] else "disabled"),
        ("PeerDiscovery", "enabled" if status["discovery"] else "disabled"),
        ("Targets", len(status["targets"])), ("Connections", connections),
        ("Peers", f"{len(peers)} (with {links} established connections)"
                  + (f", and {dead} that cannot be reached" if dead else "")),
        ("TrustedSubnets", ", ".join(status["trusted_subnets"]) or "none"),
    ]  # fmt: skip
    return rows + ([("Fastdp", f"off: {why}")] if (why := status["no_fastdp"]) else [])


def _ipam(ipam: Json, default_subnet: str) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("Service", "ipam"), ("Status", ipam_state(ipam))]
    if ipam["range"] is not None:
        rows += [("Range", ipam["range"]), ("DefaultSubnet", default_subnet or ipam["range"])]
    return rows


def _entries(status: Json) -> int:
    """Names and their addresses, without those that are a container's id."""
    return sum(
        not (each["container"] and each["name"].startswith(f"{each['container'][:SHOWN]}."))
        for each in status["names"]
    )


def _networks(status: Json) -> str:
    return ", ".join(each["name"] for each in status["networks"]) or "none"


def ipam_state(ipam: Json) -> str:
    """As `plugins.weave.status.ipam_state`."""
    if ipam["range"] is None:
        waits = "waiting for a peer" if ipam["waiting"] else "idle"
        return ipam.get("without") or waits
    if ipam["fenced"] is not None:
        return f"stopped: {ipam['fenced']}"
    if not ipam["waiting"]:
        return "ready"
    if ipam["unreachable"]:
        return f"waiting for IP(s): {ipam['unreachable']:.1%} are owned by unreachable peers"
    return "waiting for IP(s) to become available"


def connection(each: Json) -> str:
    """A line of `status connections`, as `plugins.weave.status.ConnectionStatus.line`."""
    start = f"{each['direction']} {each['address']:<21} {each['state']:<11}"
    return f"{start} {_info(each)}".rstrip()


def _info(each: Json) -> str:
    """What is to be said of a connection beside its state."""
    reason: str = each["reason"]
    if each["state"] != ESTABLISHED:
        return reason
    sealed = "encrypted" if each["encrypted"] else "unencrypted"
    who = peer(each["peer"], each["name"])
    reason = reason.removeprefix(f"{each['way']}: ")
    return f"{sealed} {each['way']} {who} mtu={each['mtu']} {reason}".rstrip()


def peers(status: Json) -> list[str]:
    """`status peers`: each with its sessions, and whether it can be reached."""
    here = {each["peer"]: each for each in status["connections"] if each["state"] == ESTABLISHED}
    where = {each["id"]: (*each["addresses"], "")[0] for each in status["peers"]}
    lines = []
    for each in status["peers"]:
        notes = [each["state"]] if each["state"] != "alive" else []
        notes += [each["faulty"]] if each["faulty"] else []
        lines.append("  ".join([peer(each["id"], each["name"]), *notes]))
        for id, name in each["links"]:
            own = here.get(id, {}) if each["id"] == status["id"] else {}
            arrow, address = own.get("direction", "--"), own.get("address", where.get(id, ""))
            lines.append(f"   {arrow} {address:<21} {peer(id, name):<37} {ESTABLISHED}")
    return lines


def targets(status: Json) -> list[str]:
    """`status targets`: each as the user wrote it, and what its address is."""
    lines = []
    for each in status["targets"]:
        name, address = each["name"] or each["address"], each["address"]
        same = address in {name, f"{name}:6783"}
        lines.append(name if same else f"{name:<20} {address}")
    return lines


def names(status: Json) -> list[str]:
    """`status dns`: name, address, container, peer; of other networks NAME.NETWORK.

    Without a container's id, which is a name of it, too.
    """
    by_id = {each["id"]: each["name"] for each in status["peers"]}
    return [
        f"{_short(each['name']):<20} {each['address']:<15}"
        f" {each['container'][:SHOWN]:<12} {peer(each['origin'], by_id.get(each['origin'], ''))}"
        for each in sorted(status["names"], key=lambda each: (each["name"], each["address"]))
        if each["name"].partition(".")[0] != each["container"][:SHOWN]
    ]


def _short(name: str) -> str:
    """ "db.weave.weave.local" is also "db.weave.local", and "db" for short."""
    return name.removesuffix(".weave.local").removesuffix(".weave")


def addresses(status: Json) -> list[str]:
    """`status ipam`: what each peer owns of the range, and what this one gave out of it."""
    ipam = status["ipam"]
    lines = []
    for each in ipam["peers"]:
        notes = [f"({ipam['active']} active)"] if each["peer"] == status["id"] else []
        if not each["reachable"]:
            notes.append("- unreachable!")
        if each["reclaimed_in"]:
            notes.append(f"reclaimed in {each['reclaimed_in'] / 3600:.1f} h")
        start = f"{peer(each['peer'], each['name']):<37} {each['addresses']:>8} IPs"
        lines.append(" ".join([f"{start} ({each['share']:6.1%} of total)", *notes]))
    lines += [without] if (without := ipam.get("without")) else []
    lines += [
        f"waiting: {each['wanted']} for {each['left']:.0f} s more: {each['why']}"
        for each in ipam["waiting"]
    ]
    return [*lines, *(f"conflict: {each}" for each in ipam["conflicts"])]


def of_weave(found: Json) -> dict[str, Any]:
    """Return a report with weave's own keys, for templates that know them, beside netkit's."""
    status, subnet = found["overlay"], found.get("DefaultSubnet") or ""
    return {"Ready": status["ipam"]["fenced"] is None, "Version": status["software"],
            "Router": _report_router(status), "IPAM": _report_ipam(status, subnet),
            "DNS": _report_dns(status), **found}  # fmt: skip


def _report_router(status: Json) -> dict[str, Any]:
    return {
        "Protocol": "weave", "Name": status["id"], "NickName": status["name"],
        "Encryption": status["encryption"], "PeerDiscovery": status["discovery"],
        "TrustedSubnets": list(status["trusted_subnets"]),
        "Targets": [each["name"] or each["address"] for each in status["targets"]],
        "Peers": [
            {"Name": each["id"], "NickName": each["name"], "Version": each["software"],
             "Connections": [{"Name": id, "NickName": name, "Established": True}
                             for id, name in each["links"]]}
            for each in status["peers"]
        ],
        "Connections": [
            {"Address": each["address"], "Outbound": each["direction"] == "->",
             "State": each["state"], "Info": _info(each),
             "Attrs": {"encrypted": each["encrypted"], "name": each["way"], "mtu": each["mtu"]}}
            for each in status["connections"]
        ],
    }  # fmt: skip


def _report_ipam(status: Json, subnet: str) -> dict[str, Any]:
    ipam = status["ipam"]
    return {
        "Range": ipam["range"] or "", "DefaultSubnet": subnet or ipam["range"] or "",
        "ActiveIPs": ipam["used"],
        "Entries": [
            {"Peer": each["peer"], "Nickname": each["name"], "Size": each["addresses"],
             "IsKnownPeer": each["reachable"]}
            for each in ipam["peers"]
        ],
        "PendingAllocates": [each["wanted"] for each in ipam["waiting"]],
    }  # fmt: skip


def _report_dns(status: Json) -> dict[str, Any]:
    return {
        "Domain": DOMAIN,
        "Entries": [
            {"Hostname": f"{each['name']}.", "Address": each["address"],
             "ContainerID": each["container"], "Origin": each["origin"]}
            for each in status["names"]
        ],
    }  # fmt: skip
