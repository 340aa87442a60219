"""Compare rows, local databases, bridges, ports, tunnels and flows of the hosts of a cluster."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from netkit.errors import KernelError
from netkit.lab import clustering
from netkit.lab.running import RunningLab
from netkit.testing import waiting

GATEWAY = "the network"  # who owns the addresses that are no container's


eventually = partial(waiting.eventually, ignored=(AssertionError, KernelError))


@dataclass(frozen=True, slots=True)
class Network:
    """One network on one host, as its engine reports it: endpoints of this host only."""

    id: str
    name: str
    shared: bool
    peers: frozenset[str]
    endpoints: dict[str, str]  # id to address
    names: dict[str, str]  # of the containers, to address

    @property
    def bridge(self) -> str:
        return f"nko{self.id}"[:15]

    @property
    def ports(self) -> set[str]:
        return {f"nkv{id}"[:15] for id in self.endpoints}


def hosts(lab: RunningLab) -> list[str]:
    return [h.name for h in lab.lab.hosts if h.daemon is not None]


def networks(lab: RunningLab, host: str, driver: str = "ovs") -> list[Network]:
    """Return networks of a driver."""
    ls = ("net", "ls", "-q", "--no-trunc", "--filter", f"driver={driver}")
    listed = lab.netkit(host, *ls).split()
    inspected = json.loads(lab.netkit(host, "net", "inspect", *listed)) if listed else []
    return [
        Network(
            id=n["Id"],
            name=n["Name"],
            shared=n["Scope"] == "global",
            peers=frozenset(p["IP"] for p in n.get("Peers") or ()),
            endpoints={c["EndpointID"]: _ip(c) for c in n["Containers"].values()},
            names={c["Name"]: _ip(c) for c in n["Containers"].values()},
        )
        for n in inspected
    ]


def _ip(container: dict[str, str]) -> str:
    return container["IPv4Address"].partition("/")[0]


def addresses(lab: RunningLab, names: Sequence[str]) -> list[str]:
    """Return where hosts that are servers are reached."""
    return [clustering.address(lab.lab, name) for name in names]


def rows(lab: RunningLab, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Return rows of a table on a server of the cluster, as any client may read them."""
    for host in lab.lab.cluster:
        remote = f"tcp:{clustering.address(lab.lab, host)}:{clustering.PORT}"
        query = ["Netkit", {"op": "select", "table": table, "where": [], "columns": [*columns]}]
        done = subprocess.run(
            ["ip", "netns", "exec", lab.places.namespace(host), "ovsdb-client", "--timeout=10",
             "transact", remote, json.dumps(query)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            (answer,) = json.loads(done.stdout)
            return [tuple(row[c] for c in columns) for row in answer["rows"]]
    raise KernelError("no server answers")


def in_order(lab: RunningLab) -> None:
    """Check that rows, local databases, bridges and flows agree, and addresses are unique."""
    found = {host: networks(lab, host) for host in hosts(lab)}
    ids = {id for (id,) in rows(lab, "Network", "id")}
    for host, here in found.items():
        status = lab.netkit(host, "cluster", "status")
        same(f"global networks of {host}", {n.id for n in here if n.shared}, ids, status)
    everywhere = [(n, a) for here in found.values() for n in here for a in n.endpoints.values()]
    times = Counter((n.name, address) for n, address in everywhere)
    same("addresses that several have", {k for k, n in times.items() if n > 1}, set())
    shared = {(n.id[:12], address) for n, address in everywhere if n.shared}
    same("addresses of the cluster", set(_rows_of(lab, "Address")), shared)
    same("endpoints of the cluster", set(_rows_of(lab, "Endpoint")), shared)
    for host, here in found.items():
        _switch_in_order(lab, host, here)
        for n in (n for n in here if n.shared):
            neighbours = {a for m, a in everywhere if m.id == n.id} - {*n.endpoints.values()}
            same(f"neighbours on {n.name} that {host} knows", _answered(lab, host, n), neighbours)


def _rows_of(lab: RunningLab, table: str) -> Iterator[tuple[str, str]]:
    """Yield (network, address) of containers from the rows of a table."""
    names = {row[1]: id[:12] for id, row in rows(lab, "Network", "id", "_uuid")}
    for network, address, owner in rows(lab, table, "network", "address", "owner"):
        if owner != GATEWAY:
            yield names[network[1]], address


def _switch_in_order(lab: RunningLab, host: str, here: list[Network]) -> None:
    same(f"bridges of {host}", set(bridges(lab, host)), {n.bridge for n in here})
    for n in here:
        ports = set(lab[host].run("ovs-vsctl", "list-ports", n.bridge).split())
        peers = n.peers if not n.shared else range(len(hosts(lab)) - 1)
        tunnels = {p for p in ports if not p.startswith("nkv")}
        same(f"ports of {n.name} on {host}", ports - tunnels, n.ports)
        same(f"how many tunnels of {n.name} on {host} there are", {len(tunnels)}, {len(peers)})
    links = set(re.findall(r"(nkv\w+)@", lab[host].run("ip", "-o", "link")))
    wanting = {p for n in here for p in n.ports} - links
    same(f"ports of {host} without a wire", wanting, set())


def same(what: str, found: set[Any], expected: set[Any], details: str = "") -> None:
    assert found == expected, (
        f"{what}: more than there should be {sorted(found - expected)}, "
        f"missing {sorted(expected - found)}\n{details}"
    )


def _answered(lab: RunningLab, host: str, network: Network) -> set[str]:
    """Return addresses that a bridge answers ARP for: those of containers behind tunnels."""
    flows = lab[host].run("ovs-ofctl", "-O", "OpenFlow14", "dump-flows", network.bridge)
    return set(re.findall(r"arp_tpa=([\d.]+)", flows))


def bridges(lab: RunningLab, host: str) -> list[str]:
    """Return the bridges of networks."""
    found = lab[host].run("ovs-vsctl", "list-br").split()
    return sorted(name for name in found if name.startswith("nko"))
