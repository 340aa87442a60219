"""Decode rows of Open vSwitch's database.  Pure.

Sources: ovs-vswitchd.conf.db(5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from netkit.kernel.ovs.idl import Copy, Row, rows
from netkit.model.openvswitch import Datapath, OvsBridge, OvsPort

MARK = "netkit"  # key in external_ids
IFACE_ID = "iface-id"  # key in external_ids of an interface: the logical port that it is in OVN
INTERNAL = "internal"  # type of an interface: ovs-vswitchd makes a device of the host
INDEX = "netkit-ifindex"  # key in external_ids of a port: its link's index when it was added
RENEWALS = "netkit-renewals"  # key in external_ids of a bridge: how often its local port was remade


@dataclass(frozen=True, slots=True, order=True)
class Tunnel:
    """`state` as bidirectional forwarding detection has it (RFC 5880): up, init, down, admin_down;
    "unknown" without it."""

    name: str
    remote: str
    state: str
    diagnostic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugged:
    """A port and its interface, as the database has them.  `number` is OpenFlow's."""

    bridge: str
    name: str
    number: int
    kind: str
    options: Mapping[str, str]
    state: str  # of BFD, as in Tunnel; "unknown" without it
    diagnostic: str
    beginning: bool = False  # BFD has not been up yet, and may come up any moment


def bridge_of(row: Row) -> OvsBridge:
    port = next((p for p in row.ports if p.name == row.name), None)
    mtu = port.interfaces[0].mtu_request if port is not None else []
    return OvsBridge(
        name=row.name,
        datapath=cast(Datapath, row.datapath_type or "system"),
        secure=row.fail_mode == ["secure"],
        mac=row.other_config.get("hwaddr"),
        mtu=mtu[0] if mtu else None,
        protected=port is not None and port.protected,
        owner=owner_of(row),
    )


def port_of(row: Row, bridge: str) -> OvsPort:
    i = row.interfaces[0]
    return OvsPort(
        name=row.name,
        bridge=bridge,
        kind=i.type,
        options=tuple(sorted(i.options.items())),
        tag=row.tag[0] if row.tag else None,
        protected=row.protected,
        bfd=i.bfd.get("enable") == "true",
        iface_id=i.external_ids.get(IFACE_ID, ""),
        mac=i.mac[0] if i.mac else None,
        mtu=i.mtu_request[0] if i.mtu_request and i.type == INTERNAL else None,
        owner=owner_of(row),
    )


def owner_of(row: Row) -> str | None:
    owner: str | None = row.external_ids.get(MARK)
    return owner if owner and owner.startswith("netkit:") else None


def index_of(row: Row) -> int | None:
    """The index of the link this port was added with; None if that is not recorded."""
    text: str = row.external_ids.get(INDEX, "")
    return int(text) if text.isdecimal() else None


def renewals_of(row: Row) -> int:
    """How often the link of this bridge's local port was made again."""
    text: str = row.external_ids.get(RENEWALS, "")
    return int(text) if text.isdecimal() else 0


def is_owned(row: Row, prefix: str) -> bool:
    return (owner_of(row) or "").startswith(prefix)


def troubles(idl: Copy, names: set[str]) -> list[str]:
    """Return the errors of ovs-vswitchd on these interfaces."""
    interfaces = list(rows(idl, "Interface"))
    failed = [i for i in interfaces if i.name in names and (i.error or i.ofport in ([], [-1]))]
    return sorted(f"port {i.name}: {_twin(idl, i, interfaces) or _why(i)}" for i in failed)


def _why(interface: Row) -> str:
    return " ".join(interface.error) or "it could not be opened"


def _twin(idl: Copy, interface: Row, interfaces: list[Row]) -> str:
    """Name another tunnel with the same remote address and key, in any bridge; OVS refuses such."""
    there = interface.options.get("remote_ip")
    for other in interfaces if there else ():
        same = (other.type, other.options) == (interface.type, interface.options)
        if same and other != interface and other.ofport not in ([], [-1]):
            owners = (b.name for b in rows(idl, "Bridge") for p in b.ports if p.name == other.name)
            return (
                f"there is a tunnel to {there} with key {interface.options.get('key', '0')} "
                f"already, {other.name} of bridge {next(owners, 'unknown')}: give this network "
                "another key (-o key=N)"
            )
    return ""


def plugged(
    idl: Copy, may_come_up: Callable[[Row], bool] = lambda _: False
) -> list[Plugged]:
    return [
        _plugged(row.name, i, may_come_up(i))
        for row in rows(idl, "Bridge")
        for port in row.ports
        for i in port.interfaces
        if i.ofport
    ]


def _plugged(bridge: str, i: Row, beginning: bool) -> Plugged:
    return Plugged(
        bridge=bridge,
        name=i.name,
        number=i.ofport[0],
        kind=i.type,
        options=dict(i.options),
        state=i.bfd_status.get("state", "down" if beginning else "unknown"),
        diagnostic=i.bfd_status.get("diagnostic", ""),
        beginning=beginning,
    )


def tunnels(idl: Copy, owner: str) -> list[Tunnel]:
    found = (p.interfaces[0] for p in rows(idl, "Port") if owner_of(p) == owner)
    return sorted(
        Tunnel(
            name=i.name,
            remote=i.options["remote_ip"],
            state=i.bfd_status.get("state", "unknown"),
            diagnostic=i.bfd_status.get("diagnostic", ""),
        )
        for i in found
        if "remote_ip" in i.options
    )
