"""ovn: servers of an OVN, for networks of the driver ovn."""

from __future__ import annotations

import sys
from functools import partial

from netkit.cli import table
from netkit.cli.commands import NONE, command
from netkit.cli.flags import Options, switch, text
from netkit.cli.ps import FORMAT_HELP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session
    from netkit.client.engine import Json

OPEN = "WARNING: without TLS, any host that reaches these servers can change every network"


@command(
    "[OPTIONS]", NONE,
    text("address", "Address by which the other hosts know this one; as it routes unless given"),
    text("join", "A host with servers, whose OVN this host's are to join"),
    switch("insecure", "Without TLS on an address that other hosts reach"),
)  # fmt: skip
def up(session: Session, options: Options) -> None:
    body = {
        "Address": options.text("address"), "Server": options.text("join"),
        "Insecure": options.flag("insecure"),
    }  # fmt: skip
    made = session.engine.post("/netkit/ovn/up", body=body)
    if not made["TLS"]:
        print(OPEN, file=sys.stderr)
    print("On each host, with an address of its own where tunnels end:")
    print(
        f"netkitd --ovn-nb {made['Northbound']} --ovn-sb {made['Southbound']} --ovn-encap-ip IP"
    )


@command(
    "[OPTIONS]", NONE,
    switch("force", "Although there are networks, and without asking other servers", short="f"),
)  # fmt: skip
def down(session: Session, options: Options) -> None:
    session.engine.post("/netkit/ovn/down", body={"Force": options.flag("force")})
    print("This host has no servers of an OVN any more.")


@command("[OPTIONS]", NONE, text("format", FORMAT_HELP))
def status(session: Session, options: Options) -> None:
    found = session.engine.get("/netkit/ovn")
    if source := options.text("format"):
        fields = {name: partial(found.get, name) for name in found}
        table.write([table.line(fields, Label=lambda _: "")], source, {})
        return
    for line in summary(found):
        print(line)


def summary(found: Json) -> list[str]:
    if not found["Servers"]:
        return ["This host has no servers of an OVN: netkit ovn up"]

    def leader(at: str) -> str:
        return at or "none: most servers do not answer"

    return [
        f"Servers:     {', '.join(found['Servers'])}",
        f"Northbound:  {found['Northbound']} (leader {leader(found['NorthboundLeader'])})",
        f"Southbound:  {found['Southbound']} (leader {leader(found['SouthboundLeader'])})",
        f"ovn-northd:  {found['Northd']} on this host",
        f"TLS:         {'yes' if found['TLS'] else 'no'}",
        *(f"Problem:     {problem}" for problem in found["Problems"]),
    ]
