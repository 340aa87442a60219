"""One container: what it is, its rules in sentences, the end of its logs.  Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netkit.cli.fwtext import lines
from netkit.client.engine import Engine
from netkit.client.failure import Refused
from netkit.ui.source import Source

TAIL = 200  # lines of logs
MOST = 1 << 18  # bytes of them
EXPLAINED = 4  # published ports that are explained
HEAD = 8  # bytes of a frame's head: stream, three zeros, length (big endian)


def details(source: Source, name: str) -> dict[str, Any]:
    """{"Name", "Image", "Command", "State", "Created", "Rules", "Explained"}.  Refused."""
    engine, networks = source.containers(), source.networks()
    try:
        found = engine.get(f"/containers/{name}/json")
        config = found["Config"]
        return {
            "Name": found["Name"].lstrip("/"),
            "Image": config.get("Image", ""),
            "Command": [found.get("Path", ""), *(found.get("Args") or [])],
            "State": found["State"],
            "Created": found.get("Created", ""),
            "NetworkMode": found.get("HostConfig", {}).get("NetworkMode", ""),
            **_rules(networks, found["Name"].lstrip("/")),
        }
    finally:
        engine.close()
        networks.close()


def _rules(engine: Engine, name: str) -> dict[str, Any]:
    """What `fw show` and, for ports that are published, `fw explain` say."""
    try:
        found = engine.get("/netkit/firewall", {"container": name})
    except Refused as refused:  # of an engine whose containers netkitd does not know
        return {"Rules": [refused.reason], "Explained": []}
    return {"Rules": list(lines(found)), "Explained": list(_explained(engine, found))}


def _explained(engine: Engine, found: dict[str, Any]) -> Iterator[str]:
    published = [p for c in found["Containers"] for p in c.get("Published") or () if p["HostPort"]]
    for port in published[:EXPLAINED]:
        local = port["HostIp"].startswith("127.")
        ends = {"from": "host" if local else "world", "to": f"host:{port['HostPort']}"}
        try:
            answer = engine.get("/netkit/firewall/explain", {**ends, "port": port["Proto"]})
        except Refused as refused:
            yield refused.reason
        else:
            yield answer["Text"]


def logs(source: Source, name: str) -> bytes:
    """The last lines of both streams, in the order in which they were written.  Refused."""
    engine = source.containers()
    try:
        asked = {"stdout": True, "stderr": True, "tail": TAIL}
        tty = engine.get(f"/containers/{name}/json")["Config"].get("Tty")
        answer = engine.stream("GET", f"/containers/{name}/logs", asked)
        data = bytearray()
        for chunk in answer.chunks():
            data += chunk
            if len(data) > MOST:
                break
        answer.wire.close()
        return bytes(data) if tty else unframed(bytes(data))
    finally:
        engine.close()


def unframed(data: bytes) -> bytes:
    """What is in the frames of docker's multiplexed stream, of all its streams; the last one may be
    cut."""
    out = bytearray()
    while len(data) >= HEAD:
        size = int.from_bytes(data[4:HEAD], "big")
        out += data[HEAD : HEAD + size]
        data = data[HEAD + size :]
    return bytes(out)
