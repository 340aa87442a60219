"""The state of all servers of an OVN, asked from one of their hosts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from netkit.cluster.greeting import ask
from netkit.cluster.ovn import NORTHD, OvnServers
from netkit.cluster.ovn_databases import OvnServer
from netkit.cluster.tls import why
from netkit.errors import KernelError

PATIENCE = 1.0  # seconds for each step of asking a server


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """One server of one database.  ovsdb-server(7), "Database" of `_Server`."""

    database: str  # OVN_Northbound, OVN_Southbound
    address: str
    local: bool  # of this host
    role: str = ""  # leader, follower; candidate without most servers; "" if it does not answer
    index: int = 0  # of the last entry of the log that it has
    lag: int = 0  # entries that the leader has and it has not
    clients: int | None = None  # connections of them; None where only its own host knows
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OvnStatus:
    """`northd`: active, standby, paused, or "" if that of this host does not answer."""

    servers: tuple[ServerView, ...]
    northd: str
    problems: tuple[str, ...]

    @property
    def quorum(self) -> bool:
        """Whether both databases have a leader, so that they may be changed."""
        leading = {view.database for view in self.servers if view.role == "leader"}
        return leading == {view.database for view in self.servers} != set()


def status(servers: OvnServers) -> OvnStatus:
    """Ask all of them; one that does not answer costs a second."""
    problems: list[str] = []
    silent: dict[str, str] = {}  # address to reason
    views = [view for s in servers.both for view in _database(s, servers, silent)]
    northd = ""
    try:
        northd = servers.northd_state()
    except KernelError as error:
        problems.append(f"{NORTHD} of this host: {error}")
    return OvnStatus(servers=tuple(views), northd=northd, problems=tuple(problems))


def _database(
    server: OvnServer, servers: OvnServers, silent: dict[str, str]
) -> Iterable[ServerView]:
    settings = server.settings
    if settings is None:
        return []
    known = settings.servers
    try:
        known = server.status().servers or known
    except KernelError:  # its view says so
        known = settings.servers
    views = [_view(server, a, a == settings.address, servers, silent) for a in sorted(known)]
    top = max((v.index for v in views if v.role == "leader"), default=0)
    return [replace(v, lag=max(0, top - v.index) if v.role else 0) for v in views]


def _view(
    server: OvnServer, address: str, local: bool, servers: OvnServers, silent: dict[str, str]
) -> ServerView:
    view = ServerView(database=server.name, address=address, local=local)
    if address in silent:
        return replace(view, problem=silent[address])
    try:
        row = ask(address, server.clients, servers.certificates, server.name, PATIENCE)
    except OSError as error:
        problem = f"does not answer ({why(error)})"
        if not isinstance(error, ConnectionRefusedError):  # its host is not reached
            silent[address] = problem
        return replace(view, problem=problem)
    except KernelError as error:
        return replace(view, problem=str(error))
    role = "leader" if row["leader"] else "follower"
    return replace(
        view,
        role=role if row["connected"] else "candidate",
        index=row["index"] if isinstance(row["index"], int) else 0,  # [] before it has any
        clients=_clients(server) if local else None,
    )


def _clients(server: OvnServer) -> int:
    """ovsdb-server(8), memory/show: without any it does not mention them."""
    try:
        found = re.search(r"\bsessions:(\d+)", server.memory())
    except KernelError:
        return 0
    return int(found[1]) if found else 0
