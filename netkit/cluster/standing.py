"""Parse ovsdb-server's cluster/status.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SERVER = re.compile(r"^ *([0-9a-f]{4}) \(\S+ at (?:tcp|ssl):(\S+):\d+\)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """A server's report on itself and its cluster."""

    role: str  # leader, follower, candidate
    leader: str  # address, "" if there is none
    servers: tuple[str, ...]  # addresses, sorted
    connected: bool  # has it contact with most of the servers?


def members(text: str) -> dict[str, str]:
    """Short ids of the servers, with their addresses."""
    return dict(_SERVER.findall(text))


def parsed(text: str) -> ServerStatus:
    """Parse the output of `ovs-appctl cluster/status`."""
    fields = dict(re.findall(r"^([A-Z][\w ]*): (.*)$", text, re.MULTILINE))
    servers = members(text)
    leader = fields.get("Leader", "unknown")
    if leader == "self":
        leader = fields.get("Server ID", "")[:4]
    return ServerStatus(
        role=fields.get("Role", "unknown"),
        leader=servers.get(leader, ""),
        servers=tuple(sorted(servers.values())),
        connected=leader in servers,
    )
