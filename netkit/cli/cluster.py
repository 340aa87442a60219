"""cluster: hosts that share networks."""

from __future__ import annotations

import sys

from netkit.cli import table
from netkit.cli.commands import NONE, at_most, command, exactly
from netkit.cli.flags import Options, switch, text
from netkit.cli.ps import FORMAT_HELP
from netkit.client.failure import Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

TABLE = "table {{.ID}}\t{{.Name}}\t{{.Address}}\t{{.Server}}\t{{.Endpoints}}"
HEADERS = {
    "ID": "HOST ID", "Name": "NAME", "Address": "ADDRESS", "Server": "SERVER",
    "Endpoints": "ENDPOINTS",
}  # fmt: skip
ADDRESS = text(
    "address", "Address by which the other hosts know this one; as it routes unless given"
)

OPEN = (
    "WARNING: without TLS, any host that reaches the servers of the cluster can change everything: "
    "see netkitd --cluster-tls-ca"
)


@command("[OPTIONS]", NONE, ADDRESS)
def init(session: Session, options: Options) -> None:
    made = session.engine.post("/netkit/cluster/init", body={"Address": options.text("address")})
    if not made["TLS"]:
        print(OPEN, file=sys.stderr)
    print(f"The cluster has begun.  On other hosts: netkit cluster join {made['Servers'][0]}")


@command("[OPTIONS] ADDRESS", exactly(1), ADDRESS)
def join(session: Session, options: Options) -> None:
    body = {"Server": options.args[0], "Address": options.text("address")}
    made = session.engine.post("/netkit/cluster/join", body=body)
    print(f"This host is one of {len(made['Servers'])} servers of the cluster.")


@command(
    "[OPTIONS] [HOST]", at_most(1),
    switch("force", "This host, without asking the others, who may all be dead", short="f"),
)  # fmt: skip
def leave(session: Session, options: Options) -> None:
    host = options.args[0] if options.args else ""
    if host and options.flag("force"):
        raise Misuse("--force is about this host: leave out the name", 1)
    body = {"Host": host, "Force": options.flag("force")}
    session.engine.post("/netkit/cluster/leave", body=body)
    print(f"{host or 'This host'} has left the cluster.")


@command("[OPTIONS]", NONE, text("format", FORMAT_HELP))
def status(session: Session, options: Options) -> None:
    source = options.text("format") or TABLE
    found = session.engine.get("/netkit/cluster")
    if not options.text("format"):
        for line in summary(found):
            print(line)
    if found["Remotes"] or options.text("format"):
        rows = [row(host, found) for host in found["Hosts"]]
        table.write(rows, source, HEADERS)


def summary(found: Json) -> list[str]:
    if not found["Remotes"]:
        return ["This host is in no cluster: netkit cluster init, or join ADDRESS"]
    lines = [f"Servers:   {', '.join(found['Servers'] or found['Remotes'])}"]
    if found["Servers"]:
        leader = found["Leader"] or "none: most servers do not answer"
        lines.append(f"Leader:    {leader}")
    lines.append(f"Answers:   {'yes' if found['Answers'] else 'no'}")
    lines.append(f"TLS:       {'yes' if found['TLS'] else 'no'}")
    lines.append(f"Networks:  {', '.join(found['Networks']) or 'none'}")
    return [*lines, *(f"Problem:   {problem}" for problem in found["Problems"])]


def row(host: Json, found: Json) -> table.Line:
    def server() -> str:
        remotes = [remote.split(":")[1] for remote in found["Remotes"]]
        if host["Address"] not in (found["Servers"] or remotes):
            return ""
        return "leader" if host["Address"] == found["Leader"] else "yes"

    fields = {
        "ID": lambda: host["Id"],
        "Name": lambda: host["Name"] + (" (this host)" if host["Self"] else ""),
        "Address": lambda: host["Address"],
        "Server": server,
        "Endpoints": lambda: host["Endpoints"],
    }
    return table.line(fields, Label=lambda name: "")
