"""What a daemon answers about the weave overlay: for golden tests."""

from __future__ import annotations

from typing import Any

import msgspec

from plugins.weave import space_status, status
from plugins.weave.identity import PeerId
from plugins.weave.overview import SILENT

ABSENT = "the weave overlay is not running on this host: netkit weave launch"
H1, H2, H3 = (letter * 32 for letter in "abc")
WEB = "0123456789abcdef" * 4
Answer = tuple[Any, int] | None  # None: 204


def _shares() -> tuple[space_status.PeerShare, ...]:
    rows = [(H1, "h1", 524288, 0.5, True, None), (H2, "h2", 393216, 0.375, True, None),
            (H3, "h3", 131072, 0.125, False, 180000.0)]  # fmt: skip
    return tuple(
        space_status.PeerShare(
            PeerId(bytes.fromhex(id)), name, addresses, share, reachable, None, False, reclaimed
        )
        for id, name, addresses, share, reachable, reclaimed in rows
    )


def overlay() -> status.Status:
    """Return the status of h1, with a peer by fastdp, one by relay, one dead, and two attempts."""
    connection, peer = status.ConnectionStatus, status.PeerStatus
    return status.Status(
        id=H1, name="h1", software="netkit 0.1.0", protocol="1..1", encryption=True,
        discovery=False, trusted_subnets=("10.0.0.0/8", "192.168.0.0/16"),
        no_fastdp="it was launched with --no-fastdp",
        targets=(
            status.TargetStatus("10.0.0.2:6783", "h2", H2),
            status.TargetStatus("10.0.0.9:6783", "10.0.0.9", ""),
            status.TargetStatus("10.0.0.8:7000", "10.0.0.8:7000", ""),
        ),
        connections=(
            connection("->", "10.0.0.2:6783", "established", True, "fastdp", "", H2, "h2", 1472,
                       1410),
            connection("<-", "relay by h2", "established", False, "relay", "no direct way", H3,
                       "h3", 1232, 1200),
            connection("->", "10.0.0.9:6783", "retrying", True, "none",
                       f"{SILENT}, next attempt in 4 s", "", "", 0, 0),
            connection("->", "10.0.0.1:6783", "failed", True, "none",
                       "cannot connect to ourself", "", "", 0, 0),
        ),
        peers=(
            peer(H1, "h1", "alive", "netkit 0.1.0", ("10.0.0.1:6783",), ((H2, "h2"),), ""),
            peer(H2, "h2", "suspect", "netkit 0.1.0", ("10.0.0.2:6783",),
                 ((H1, "h1"), (H3, "h3")), "it signed two records of one version"),
            peer(H3, "h3", "dead", "netkit 0.1.0", (), (), ""),
        ),
        names=(
            status.NameStatus("www.weave.weave.local", "10.32.0.2", "", H2),
            status.NameStatus("web.weave.weave.local", "10.32.0.1", WEB, H1),
            status.NameStatus(f"{WEB[:12]}.lane.weave.local", "10.40.0.1", WEB, H1),
            status.NameStatus("web.lane.weave.local", "10.40.0.1", WEB, H1),
        ),
        networks=(status.NetworkStatus("weave", 4711, True, 1, 1, (H1, H2), ()),),
        ipam=space_status.SpaceStatus(
            "10.32.0.0/12", b"\x01" * 16, PeerId(bytes.fromhex(H1)), 3, _shares(), 0.125, 7, 5, 1,
            2000.0, None, (space_status.Waiting(b"x", "10.32.9.0/24", "its owner is gone", 12.0),),
            ("h9 has addresses of a range that was founded apart from this one",),
        ),
        dropped={"stranger": 3}, warnings=(),
    )  # fmt: skip


def as_json(value: Any) -> Any:
    """As the daemon makes JSON of a status: bytes in hexadecimal."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {key: as_json(each) for key, each in value.items()}
        case list() | tuple():
            return [as_json(each) for each in value]
    return value


def _found(state: str) -> dict[str, Any]:
    running = state == "launched"
    found = as_json(msgspec.to_builtins(overlay(), builtin_types=(bytes,))) if running else None
    warnings = ["10.32.0.7 of web is another host's"] if running else []
    return {
        "Launched": state.startswith("launched"), "Running": running, "Status": found,
        "Process": {"problems": ["nf_tables is missing"]} if running else None,
        "Warnings": warnings, "DefaultSubnet": "10.33.0.0/16",
    }  # fmt: skip


PS = [
    {"Container": "weave:expose", "Name": "", "Mac": "02:00:00:00:00:01", "Network": "weave",
     "Addresses": ["10.2.1.132/24"]},
    {"Container": WEB, "Name": "/web", "Mac": "02:00:00:00:00:02", "Network": "weave",
     "Addresses": ["10.32.0.1/12", "10.2.1.3/24"]},
    {"Container": "fedcba9876543210" * 4, "Name": "/db", "Mac": "02:00:00:00:00:03",
     "Network": "lane", "Addresses": ["10.40.0.2/16"]},
]  # fmt: skip


def answer(
    state: str, method: str, path: str, query: dict[str, list[str]], body: Any
) -> Answer:
    verb = path.removeprefix("/netkit/weave").strip("/")
    if verb == "":
        return _found(state), 200
    if verb == "launch":
        if state == "launched":
            return {"message": "the weave overlay runs on this host already: weave stop"}, 409
        if "unreachable.example" in body.get("Peers", ()):
            return {"message": "there is no host 'unreachable.example'"}, 400
        return _found("launched"), 201
    if verb == "ps":
        return PS if state != "nowhere" else [], 200
    if state != "launched":
        return {"message": ABSENT}, 404
    return _of_running(verb, query, body)


def _of_running(verb: str, query: dict[str, list[str]], body: Any) -> Answer:
    match verb:
        case "report":
            found = _found("launched")
            return {"overlay": found["Status"], "process": found["Process"],
                    "DefaultSubnet": found["DefaultSubnet"], "Warnings": found["Warnings"]}, 200
        case "rmpeer" if body["Peer"] == "alive":
            return {"message": "alive is alive: run weave reset there"}, 409
        case "rmpeer":
            return {"Addresses": 5, "Text": f"5 IPs taken over from {body['Peer']}"}, 200
        case "attach" if body["Container"] == "taken":
            return {"message": "10.32.0.7 is in use at h2"}, 409
        case "attach" | "expose":
            given = ["10.32.0.9/12" if a.startswith("net:") else a for a in body["Addresses"]]
            return {"Addresses": given or ["10.32.0.9/12"]}, 200
        case "detach" | "hide":
            given = [each.removeprefix("ip:") for each in body["Addresses"]]
            return {"Addresses": given or ["10.32.0.9/12", "10.2.1.3/24"]}, 200
        case "reset":
            return {"Containers": [] if body["Force"] else ["db", "web"]}, 200
        case "dns/lookup":
            names = ["web.weave.weave.local", "web.lane.weave.local"]
            known = {"web": {"Addresses": ["10.32.0.1", "10.32.0.5"]},
                     "10.32.0.1": {"Names": names}}  # fmt: skip
            return known.get(query["name"][0], {"Addresses": []}), 200
    return None
