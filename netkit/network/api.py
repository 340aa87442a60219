"""Use cases on networks, endpoints and published ports: intent first, then the kernel.

Three protocols, of which a caller takes the one it needs; all are thread-safe and synchronous, and
every method happens whole or not at all.  `netkit.network.controller.Controller` has them all;
what it does with sandboxes is `netkit.network.sandbox.SandboxController`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from netkit.driver import OverlayPorts, TrafficPolicy, Traits
from netkit.model import State
from netkit.network.access import AccessRule
from netkit.network.address_use import SubnetUse
from netkit.network.deviation import LinkCheck
from netkit.network.planned import Plans
from netkit.reconcile.plan import Plan
from netkit.reconcile.resync import ResyncResult
from netkit.spec import (
    CreatedNetwork,
    EndpointRecord,
    EndpointSpec,
    LinkedPorts,
    NetworkRecord,
    NetworkSpec,
    PortSpec,
    Sandbox,
)


class Networks(Protocol):
    """Use cases on networks, and on the endpoints on them."""

    def create(self, spec: NetworkSpec) -> CreatedNetwork:
        """Create a network.  AlreadyExists "network with name X already exists"."""
        ...

    def reconfigure(
        self, ref: str, options: Mapping[str, str], *, gateway: str = ""
    ) -> NetworkRecord:
        """Change options of a network while containers are on it, those that its driver says may.

        Where the host gets an address by it, that is `gateway`, else the subnet's gateway, else the
        lowest free one; where it leaves the network, its address is released.  Containers that are
        there get their default route by the host, unless they have one by another network.
        InvalidSpec for other options; InUse if a container has the address; Conflict where a
        published port would be lost; KernelError leaves it as it was.
        """
        ...

    def remove(self, ref: str) -> NetworkRecord:
        """Remove a network.  Forbidden if built in, or naming containers that are on it."""
        ...

    def address_use(self, refs: Sequence[str] = ()) -> Sequence[SubnetUse]:
        """How many addresses are allocated, of the subnets of these networks or of all."""
        ...

    @property
    def plans(self) -> Plans: ...

    def find(self, ref: str) -> NetworkRecord:
        """Find by full id, name, unique id prefix.  NotFound "network X not found"."""
        ...

    def all(self) -> list[NetworkRecord]: ...

    def check_options(self, spec: NetworkSpec) -> None:
        """NotFound if there is no such driver, InvalidSpec if it refuses the options."""
        ...

    def check_links(self, refs: Sequence[str] = ()) -> LinkCheck:
        """What is not as it should be of these networks' links, addresses, routes, neighbours and
        switches, or of all networks'; and why some of it could not be looked at.  NotFound."""
        ...

    def refused(self) -> Mapping[str, str]:
        """By name, why networks that are stored cannot be used."""
        ...

    def traits(self, record: NetworkRecord) -> Traits:
        """What is true of all networks of its driver."""
        ...

    def policy(self, id: str) -> TrafficPolicy | None:
        """What the firewall is to enforce on a network; None if it has no business there."""
        ...

    def overlay(self, id: str) -> OverlayPorts | None:
        """Its ports to other hosts, where its driver has an overlay.  NotFound."""
        ...

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        """Live endpoints of a network, or of a sandbox, or of a container of another engine by
        that engine's id of it."""
        ...

    def endpoints_around(
        self, networks: Iterable[str], sandboxes: Iterable[str] = ()
    ) -> list[EndpointRecord]:
        """All live endpoints of the sandboxes on these networks, and of these sandboxes."""
        ...

    def occupied(self) -> set[str]:
        """Ids of the networks that have live endpoints."""
        ...


class Sandboxes(Protocol):
    """Containers on networks.  Network ids, not names."""

    def reserve(
        self, sandbox_id: str, wants: Sequence[EndpointSpec], *, more: bool = False
    ) -> None:
        """Check the specs when a container is created, and reserve its static addresses.

        In place of what was reserved before, or with `more` besides; nothing stays reserved if
        one cannot be.
        """
        ...

    def unreserve(self, sandbox_id: str, network_id: str) -> None:
        """Release the static address of a container that has left the network for good."""
        ...

    def forget(self, sandbox_id: str) -> None:
        """Release the static addresses of a removed container."""
        ...

    def prepare(self, sandbox: Sandbox) -> bool:
        """Make the sandbox's namespace, without links, ahead of `open`: for what needs its file.

        False where that is left to `open`: the namespace is the host's, or the sandbox is open,
        or something of it is left.  After True the caller calls `open` or `close`.
        """
        ...

    def open(
        self,
        sandbox: Sandbox,
        wants: Sequence[EndpointSpec],
        ports: Sequence[PortSpec],
        *,
        shared: bool = False,
    ) -> list[EndpointRecord]:
        """Make the sandbox's namespace, join all networks, publish: all of it or nothing.

        Called again for a sandbox that is open, for the next run of its container: endpoints,
        addresses and ports stay if they still match the specs, the namespace is a new one
        (`renew`).  With `shared`, other containers run in it: it is kept and repaired.
        Ports are published on the network of the default route, at container addresses where
        that one is routed; as with Docker, nothing is where all networks are internal.
        """
        ...

    def renew(self, sandbox_id: str) -> None:
        """Renew the namespace between two runs of a container, with the same endpoints in it.

        Nothing that the last run did to its namespace is left: addresses, routes, rules, links.
        Of one that is not open, nothing is there anyway.
        """
        ...

    def connect(self, sandbox: Sandbox, want: EndpointSpec) -> EndpointRecord:
        """Join one more network while open.  The default route and ports move if it is better."""
        ...

    def disconnect(self, sandbox_id: str, network_id: str) -> None: ...

    def readdress(self, sandbox_id: str, want: EndpointSpec) -> EndpointRecord | None:
        """Change a container's addresses on a network it is on to what the spec requests.

        What it has and is still requested stays, with the flows that use it.  Nothing is changed
        where an address cannot be had, or the kernel refuses: InUse, Conflict, Busy, KernelError.
        InvalidSpec: its driver's endpoints have one address.  NotFound: it is not on the network.
        Of one that is not open: its reservations change, and None is returned.
        """
        ...

    def set_linked_ports(
        self, sandbox_id: str, network_id: str, opens: Sequence[LinkedPorts]
    ) -> None:
        """Change which neighbours' ports a sandbox may reach although icc is off."""
        ...

    def close(self, sandbox_id: str) -> None:
        """Leave everything and remove the namespace.  Nothing to do if it is not open."""
        ...

    def lease(self, sandbox_id: str, network_id: str, ip: str = "") -> str:
        """Allocate and reserve an address, this one or any, for a sandbox that is yet to be opened.

        It is opened with `EndpointSpec.ip` and `allocated`; `forget` releases it.  With prefix
        length: "10.0.0.2/24".  InUse, InvalidSpec; Conflict when there is none.
        """
        ...

    def hand_over(self, sandbox_id: str, ns: str) -> None:
        """Store the namespace to which the engine moves the far end of the pair (`handover`).

        Conflict if the sandbox is not open.
        """
        ...

    def publish(self, sandbox_id: str, ports: Sequence[PortSpec]) -> None:
        """Publish these ports of an open sandbox, and no others; none where that fails.

        InvalidSpec where its network publishes none, Conflict where one is taken, KernelError.
        """
        ...

    def rename(self, sandbox_id: str, name: str, names: Mapping[str, Sequence[str]]) -> None:
        """Rename a container; `names`: its DNS names by network id."""
        ...

    def sandbox(self, id: str) -> Sandbox | None:
        """One that is open, or half-way there; else None."""
        ...

    def resources(self, record: EndpointRecord) -> State:
        """Return what an endpoint is made of.  Conflict if its sandbox is not open."""
        ...

    def deviations(self, record: EndpointRecord) -> list[str]:
        """List the steps that would repair an endpoint, and what its network needs.

        Conflict for what is there and is not netkit's, or if its sandbox is not open.
        """
        ...

    def of_engine(self, engine: str) -> list[Sandbox]:
        """List the sandboxes of containers that this engine runs, open or half-way there."""
        ...

    def restore(self, live: Mapping[str, Sandbox]) -> None:
        """After a start of the daemon: drop what was pending, close sandboxes not in `live`,
        converge to what is ready, sweep what is marked ours and unwanted."""
        ...


class Policies(Protocol):
    """Access rules, and drift of the firewall."""

    def access(self) -> list[AccessRule]:
        """List the user's access rules, in order.

        One whose row cannot be read has the verdict access.UNREADABLE; what the kernel has of it
        stays until it is removed."""
        ...

    def add_access_rule(self, rule: AccessRule, *, first: bool = False) -> AccessRule:
        """Add an accept or drop rule, in force at once; it stays until it, or one of the
        containers it names, is removed.  InvalidSpec; Conflict if it is there already."""
        ...

    def remove_access_rule(self, ref: str) -> AccessRule:
        """Remove an access rule, readable or not, by its id or the beginning of it.  NotFound."""
        ...

    def rule_origins(self) -> Mapping[str, str]:
        """Of the rules in the kernel that stand for access rules: the ids of those, by digest."""
        ...

    def drift(self) -> Plan:
        """Return the steps that would repair the firewall; none where it has no drift."""
        ...

    def unenforced(self) -> list[str]:
        """What of access rules is not in force in switches, a line each, for people."""
        ...

    def repair(self) -> ResyncResult:
        """Repair the firewall.  Rules of other tools stay."""
        ...


class NamePublisher(Protocol):
    """The consumer of names: DNS, and /etc/hosts."""

    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        """Notify of endpoints that were added, changed or removed, after the kernel was changed.

        Called from any thread, in order for each sandbox; must neither block nor raise.
        """
        ...

    def refresh(self, network: str) -> None:
        """Notify that other hosts have other names than before on a network, by its id; as
        `publish`."""
        ...


class NullNamePublisher:
    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        return None

    def refresh(self, network: str) -> None:
        return None
