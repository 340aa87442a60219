"""What OVN adds to the things that can exist, as values.

On the host, rows of its Open vSwitch:

    Chassis     the host as OVN knows it: southbound database, end of tunnels
    Northbound  the northbound database that this host writes to

In the northbound database, which all hosts of the deployment share:

    LogicalSwitch  a network, with the port that is its gateway on every host
    LogicalPort    a container on it
    LogicalAcl     what may be sent to a port

Rows there carry their owner in external_ids:netkit.  A switch is of several hosts: each has a key
of its own there, and the last that goes removes it.  Names and identities: `identity`.
Sources: ovn-nb(5), ovn-controller(8), ovn-architecture(7).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import ClassVar, Literal

from netkit.model import IPAddress, Key, Resource

INTEGRATION = "br-int"  # ovn-controller's bridge, which all ports of logical switches are in
CHASSIS: Key = ("ovnchassis", INTEGRATION)
NORTHBOUND: Key = ("ovnnorthbound", INTEGRATION)
LARGEST_PRIORITY = 32767  # of an ACL
_NAMESPACE = uuid.UUID("6e65746b-6974-5a0c-9d55-6f766e000001")


def identity(table: str, name: str) -> uuid.UUID:
    """The UUID of a row of ours: the database takes several rows of a name, none of a UUID.

    Source: ovsdb-server(7), 4.2.1 Insert.
    """
    return uuid.uuid5(_NAMESPACE, f"{table} {name}")


def acl_of_rule(endpoint: str, rule: str, number: int) -> str:
    """The name of the `number`th ACL that a rule of `netkit fw` needs for an endpoint."""
    return f"{endpoint[:12]}-{rule}-{number}"


def rule_of(acl: str) -> str:
    """The id of the rule that an ACL with this name is of; "" if it is of none."""
    found = re.fullmatch(r"[0-9a-f]{12}-(.+)-\d+", acl)
    return found[1] if found else ""


def chassis_name(engine: str) -> str:
    """The name that a host's chassis gets by netkit; an administrator's keeps its own."""
    return f"netkit-{engine[:12]}"


def gateway_port(switch: str) -> str:
    """The name of the port of a logical switch that every host has: type `localport`."""
    return f"{switch}-gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chassis(Resource):
    """Open vSwitch's row has what ovn-controller needs, and that has made its bridge.

    Without `southbound` and `encap_ip` both must be set already, by the administrator, and stay.
    `tunnels` is observed: whether what is sent to `encap_ip` gets to Open vSwitch.
    """

    mutable: ClassVar[frozenset[str]] = frozenset(
        {"southbound", "encap_ip", "userspace", "integrated", "tunnels"}
    )
    optional_fields: ClassVar[frozenset[str]] = frozenset({"owner", "southbound", "encap_ip"})
    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 3
    southbound: str | None = None  # as in external_ids:ovn-remote
    encap_ip: IPAddress | None = None  # of this host, where others' tunnels to it end
    userspace: bool = False  # the datapath of its bridge
    integrated: bool = True  # the bridge is there
    tunnels: bool = True

    @property
    def key(self) -> Key:
        return CHASSIS

    def describe(self) -> str:
        return "this host as a chassis of OVN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Northbound(Resource):
    """The northbound database of this host's OVN: one, as a chassis is of one deployment."""

    mutable: ClassVar[frozenset[str]] = frozenset({"remote"})
    global_setting: ClassVar[bool] = True
    order: ClassVar[int] = 3
    remote: str  # tcp:IP:PORT,... or unix:PATH

    @property
    def key(self) -> Key:
        return NORTHBOUND

    def describe(self) -> str:
        return f"northbound database of OVN at {self.remote}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalSwitch(Resource):
    """A network's switch; it is of several hosts, `owner` is the mark of this one's part."""

    mutable: ClassVar[frozenset[str]] = frozenset({"network", "gateway"})
    carries_owner: ClassVar[bool] = True
    order: ClassVar[int] = 5
    name: str
    network: str  # as users know it
    gateway: str = ""  # "MAC ADDRESS ..." of the gateway port; "": there is none

    @property
    def key(self) -> Key:
        return ("logicalswitch", self.name)

    def describe(self) -> str:
        return f"logical switch {self.name} of OVN"

    @property
    def needs(self) -> tuple[Key, ...]:
        return (CHASSIS, *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalPort(Resource):
    """A container's port.  It sends with its own addresses alone (`secured`: port security).

    `here`: this host's chassis, and no other, may have it (options:requested-chassis).  Made is one
    whose interface `port`, of this host's Open vSwitch, ovn-controller has connected.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"addresses", "secured", "here"})
    carries_owner: ClassVar[bool] = True
    order: ClassVar[int] = 6
    name: str
    switch: str
    addresses: str  # "MAC ADDRESS ..."
    secured: bool = True
    here: bool = True
    port: str = field(default="", compare=False)  # of Open vSwitch

    @property
    def key(self) -> Key:
        return ("logicalport", self.name)

    def describe(self) -> str:
        return f"logical port {self.name} of OVN"

    @property
    def needs(self) -> tuple[Key, ...]:
        port: tuple[Key, ...] = (("ovsport", self.port),) if self.port else ()
        return (("logicalswitch", self.switch), *port, *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which IPv4 packets on their way to a logical port: all that is given holds.

    The text is for OVN, which takes any without a word and enforces none that it cannot parse: so
    there is no other way to a match than these fields.  Source: ovn-sb(5), "Logical_Flow", match.
    """

    outport: str
    from_mac: str = ""
    sources: tuple[IPv4Network, ...] = ()  # one of them; () is any
    destination: IPAddress | None = None
    proto: Literal["", "tcp", "udp", "sctp"] = ""
    first: int = 0  # destination ports; 0 and 0 are all
    last: int = 0

    def __post_init__(self) -> None:
        if self.first and not self.proto:
            raise ValueError("ports are of a protocol")

    def __str__(self) -> str:
        return " && ".join(self._terms())

    def _terms(self) -> Iterator[str]:
        yield f'outport == "{self.outport}"'
        if self.from_mac:
            yield f"eth.src == {self.from_mac}"
        yield "ip4"
        sources = [str(s) for s in self.sources]
        if sources and all(s.prefixlen for s in self.sources):
            yield f"ip4.src == {{{', '.join(sources)}}}"
        if self.destination is not None:
            yield f"ip4.dst == {self.destination}"
        if self.proto:
            yield self.proto
        if self.first and self.last > self.first:
            yield f"{self.proto}.dst >= {self.first} && {self.proto}.dst <= {self.last}"
        elif self.first:
            yield f"{self.proto}.dst == {self.first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalAcl(Resource):
    """Whether what `match` says gets to its port.  The first that matches decides, for packets of
    established connections as well: OVN tracks none of them.

    `in_force` is observed: this host's switch has the rule as it is here.
    """

    mutable: ClassVar[frozenset[str]] = frozenset({"priority", "allow", "text", "in_force"})
    carries_owner: ClassVar[bool] = True
    order: ClassVar[int] = 7
    name: str
    switch: str
    priority: int  # the highest is first, up to LARGEST_PRIORITY
    allow: bool
    match: Match | None = field(default=None, compare=False)  # not observed
    text: str = ""  # of the match
    in_force: bool = True

    def __post_init__(self) -> None:
        if self.match is not None:
            object.__setattr__(self, "text", str(self.match))

    @property
    def key(self) -> Key:
        return ("logicalacl", self.switch, self.name)

    def describe(self) -> str:
        return f"ACL {self.name} of logical switch {self.switch} of OVN"

    @property
    def needs(self) -> tuple[Key, ...]:
        port: tuple[Key, ...] = (("logicalport", self.match.outport),) if self.match else ()
        return (("logicalswitch", self.switch), *port, *self.depends_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalPath:
    """What a frame met in the flows of the integration bridge, by the names of OVN.

    `acl`: the name of the ACL that decided, its match where it has none, "" if none did; `rule`:
    the id of the netkit rule it is of, if it is one; `unbound`: the port out is on no host.
    """

    switch: str = ""
    source: str = ""  # logical ports
    target: str = ""
    unbound: bool = False
    acl: str = ""
    rule: str = ""
    drops: bool = False  # the ACL does
    rejects: bool = False  # ... with an error for the sender
    guard: str = ""  # the logical port whose port security drops it
    guards_in: bool = False  # ... as that port sends it
