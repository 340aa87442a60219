"""ovn: the servers of an OVN, for hosts that have none yet."""

from __future__ import annotations

from netkit.cli import table
from netkit.cli.commands import NONE, at_most, command, complain
from netkit.cli.flags import Options, switch, text
from netkit.cli.ps import FORMAT_HELP
from netkit.client.failure import Exit, Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

TABLE = (
    "table {{.Database}}\t{{.Address}}\t{{.Role}}\t{{.Index}}\t{{.Lag}}\t{{.Clients}}\t{{.Problem}}"
)
HEADERS = {
    "Database": "DATABASE", "Address": "ADDRESS", "Role": "ROLE", "Index": "INDEX", "Lag": "LAG",
    "Clients": "CLIENTS", "Problem": "PROBLEM",
}  # fmt: skip
OPEN = (
    "WARNING: without TLS, any host that reaches the servers of OVN can change all networks: see "
    "netkitd --cluster-tls-ca"
)


@command(
    "[OPTIONS]", NONE,
    text("address", "Address by which the other hosts know this one; as it routes unless given"),
    text("join", "Address of a server of the OVN that this host becomes a server of, too"),
    switch("insecure", "Without TLS, though other hosts reach the servers"),
    more="Where servers are on this host already, what does not run is started, and what is not "
         "complete is completed.",
)  # fmt: skip
def up(session: Session, options: Options) -> None:
    body = {
        "Address": options.text("address"), "Server": options.text("join"),
        "Insecure": options.flag("insecure"),
    }  # fmt: skip
    made = session.engine.post("/netkit/ovn/up", body=body)
    if not made["TLS"] and not made["Address"].startswith("127."):
        complain(OPEN)
    count = len({server["Address"] for server in made["Servers"]})
    print(f"OVN has {count} server{'s' if count > 1 else ''}.  On each host:")
    print(f"  netkitd --ovn-nb {made['Northbound']} --ovn-sb {made['Southbound']} "
          "--ovn-encap-ip ITS-ADDRESS")  # fmt: skip


@command(
    "[OPTIONS] [ADDRESS]", at_most(1),
    switch("force", "This host, without asking the others, who may all be dead", short="f"),
    more="ADDRESS: the servers of another host, which will not come back.",
)  # fmt: skip
def down(session: Session, options: Options) -> None:
    host = options.args[0] if options.args else ""
    if host and options.flag("force"):
        raise Misuse("--force is about this host: leave out the address", 1)
    session.engine.post("/netkit/ovn/down", body={"Host": host, "Force": options.flag("force")})
    print(f"{host or 'This host'} has no servers of OVN any more.")


@command(
    "[OPTIONS]", NONE, text("format", FORMAT_HELP),
    more="The exit code is 1 where a database has no leader, or there are no servers.",
)  # fmt: skip
def status(session: Session, options: Options) -> None:
    source = options.text("format") or TABLE
    found = session.engine.get("/netkit/ovn")
    if not options.text("format"):
        for line in summary(found):
            print(line)
    if found["Servers"] or options.text("format"):
        table.write([row(server) for server in found["Servers"]], source, HEADERS)
    if not found["Quorum"]:
        raise Exit(1)


def summary(found: Json) -> list[str]:
    if not found["Address"]:
        return ["This host has no servers of OVN: netkit ovn up"]
    quorum = "yes" if found["Quorum"] else "no: most servers of a database do not answer"
    lines = [
        f"Northbound:  {found['Northbound']}",
        f"Southbound:  {found['Southbound']}",
        f"Quorum:      {quorum}",
        f"Northd:      {found['Northd'] or 'does not answer'}",
        f"TLS:         {'yes' if found['TLS'] else 'no'}",
    ]
    return [*lines, *(f"Problem:     {problem}" for problem in found["Problems"])]


def row(server: Json) -> table.Line:
    clients = server["Clients"]
    fields = {
        "Database": lambda: server["Database"].removeprefix("OVN_"),
        "Address": lambda: server["Address"] + (" (this host)" if server["Self"] else ""),
        "Role": lambda: server["Role"] or "none",
        "Index": lambda: server["Index"],
        "Lag": lambda: server["Lag"] if server["Role"] else "",
        "Clients": lambda: "" if clients is None else clients,
        "Problem": lambda: server["Problem"],
    }
    return table.line(fields, Label=lambda name: "")
