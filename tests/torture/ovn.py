"""What a storm over chassis of an OVN has of its own: programs to kill, rows, and their order."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from netkit.lab.ovn import NORTHBOUND, NORTHD, PORTS, SOUTHBOUND
from netkit.lab.running import RunningLab
from netkit.model.ovn import INTEGRATION
from tests.labs import order
from tests.torture.processes import leads

SHORT = {"nb": "OVN_Northbound", "sb": "OVN_Southbound"}
LEADERS = ("leader of nb", "leader of sb")
SERVERS = ("server of nb", "server of sb")
MARKED = "external_ids:netkit!=none"
KEPT = {  # tables and columns, by database: what netkit writes, and what OVN makes of it
    NORTHBOUND: {
        "Logical_Switch": "name,external_ids", "Logical_Switch_Port": "name,addresses,options",
        "ACL": "name,match,action,priority", "Address_Set": "name", "Port_Group": "name",
        "DNS": "_uuid", "DHCP_Options": "_uuid", "Load_Balancer": "_uuid",
    },
    SOUTHBOUND: {
        "Chassis": "name", "Encap": "ip,chassis_name", "Datapath_Binding": "external_ids",
        "Port_Binding": "logical_port,type,tunnel_key", "MAC_Binding": "ip,mac",
    },
}  # fmt: skip


def pid(lab: RunningLab, host: str, kind: str) -> int:
    """Return the pid of a server of OVN on a host, "nb", "sb" or ovn-northd; 0 if none runs."""
    folder = Path(lab.places.run(host)) / "ovn"
    file = folder / f"{NORTHD}.pid" if kind == NORTHD else folder / kind / "ovsdb-server.pid"
    with suppress(OSError, ValueError):
        found = int(file.read_text())
        if str(file.parent).encode() in Path(f"/proc/{found}/cmdline").read_bytes():
            return found
    return 0


def leaders(lab: RunningLab, kind: str) -> list[str]:
    """Return the hosts that lead a database, "nb" or "sb"."""
    return [h for h in lab.lab.ovn if leads(lab, h, f"ovn/{kind}", SHORT[kind])]


def rows(lab: RunningLab, database: str, table: str, columns: str, *where: str) -> list[list[str]]:
    """Read rows from any server that answers.  KernelError if none does."""
    tool = {NORTHBOUND: "ovn-nbctl", SOUTHBOUND: "ovn-sbctl"}[database]
    servers = order.addresses(lab, lab.lab.ovn)
    remote = ",".join(f"tcp:{server}:{PORTS[database]}" for server in servers)
    text = lab[lab.lab.ovn[0]].run(
        tool, f"--db={remote}", "--timeout=10", "--format=csv", "--no-headings", "--data=bare",
        f"--columns={columns}", "find", table, *where,
    )  # fmt: skip
    # nbctl(8) prints columns in the order asked for
    return list(csv.reader(io.StringIO(text)))


def in_order(lab: RunningLab) -> None:
    """Check that engines, the cluster, northbound rows and br-int have the same ports."""
    found = {host: order.networks(lab, host, "ovn") for host in order.hosts(lab)}
    for host in found:
        lab.netkit(host, "cluster", "status")
    everywhere = [(n, id, a) for here in found.values() for n in here
                  for id, a in n.endpoints.items()]  # fmt: skip
    times = Counter((n.name, address) for n, _, address in everywhere)
    order.same("addresses that several have", {k for k, n in times.items() if n > 1}, set())
    wanted = {(id[:12], address) for _, id, address in everywhere}
    kept = set()
    for name, addresses, kind in rows(
        lab, NORTHBOUND, "Logical_Switch_Port", "name,addresses,type", MARKED
    ):
        if kind != "localport":
            kept.add((name.rpartition("-")[2], addresses.split()[1]))
    order.same("logical ports", kept, wanted)
    for host, here in found.items():
        ports = set(lab[host].run("ovs-vsctl", "list-ports", INTEGRATION).split())
        endpoints = {p for n in here for p in n.ports}
        order.same(f"ports of {host}", {p for p in ports if p.startswith("nkv")}, endpoints)
        gateways = {p for p in ports if p.startswith("nkg")}
        order.same(f"how many gateways {host} has", {len(gateways)}, {len(here)})
        tunnels = {p for p in ports if p.startswith("ovn-")}
        order.same(f"how many tunnels {host} has", {len(tunnels)}, {len(found) - 1})


def lines(lab: RunningLab) -> Iterator[str]:
    """Rows of both databases, for a picture of the lab."""
    for database, tables in KEPT.items():
        for table, columns in tables.items():
            for row in rows(lab, database, table, columns):
                yield f"{database}: row of {table}: {row}"
