"""Protocols of networks, firewall, traces and clusters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from netkit.network.address_use import SubnetUse
from netkit.spec import CreatedNetwork, EndpointRecord, NetworkRecord, NetworkSpec
from runtime.filters import Filters, PrunedNetworks
from runtime.network.access_request import AccessRequest

if TYPE_CHECKING:
    from netkit.diagnose.choosing import Place
    from netkit.diagnose.trace.leg import Ask, Leg


class Networks(Protocol):
    """The part of netkit.network.api.Networks that the API uses, with events.

    Connecting and disconnecting containers is in Containers.
    """

    def create(self, spec: NetworkSpec) -> CreatedNetwork: ...
    def remove(self, ref: str) -> object: ...
    def find(self, ref: str) -> NetworkRecord: ...
    def all(self) -> list[NetworkRecord]: ...

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        """Live endpoints of a network, of a sandbox, or all."""
        ...

    def endpoints_of(self, sandboxes: Sequence[str]) -> list[EndpointRecord]:
        """Live endpoints of several sandboxes."""
        ...

    def occupied(self) -> set[str]:
        """Ids of the networks that have live endpoints."""
        ...

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        """Other hosts a network has tunnels to, in the API's format: Name, IP, State."""
        ...

    def address_use(self, record: NetworkRecord) -> Sequence[SubnetUse]:
        """How many addresses of a network's subnets are allocated."""
        ...

    def drift(self, refs: Sequence[str] = ()) -> dict[str, Any]:
        """Drift of interfaces, addresses, routes and neighbours of these networks, or of all:
        {"Drift": [{"Network", "Container", "Step", "Note"}], "Findings"}."""
        ...

    def plan(self, refs: Sequence[str] = ()) -> dict[str, Any]:
        """Steps by which these networks, or all, would be as they should be: {"Steps", "Busy"}.

        Nothing is done; of runtime.network.planned, as the next two.  NotFound.
        """
        ...

    def plan_creation(self, spec: NetworkSpec) -> dict[str, Any]:
        """What `create` would do, or raise, before its first step."""
        ...

    def plan_removal(self, ref: str) -> dict[str, Any]:
        """What `remove` would do, or raise, before its first step."""
        ...

    def prune(self, filters: Filters) -> PrunedNetworks:
        """Remove networks without endpoints, except predefined ones.  KernelError if none could."""
        ...


class Firewall(Protocol):
    """Access rules, drift and explanations.  Objects are in the API's format."""

    @property
    def enforced(self) -> bool:
        """Does netkit write rules?  Not with --iptables=false."""
        ...

    def rules(self, ref: str = "") -> list[dict[str, Any]]:
        """Access rules, in order; of one container if `ref` names one."""
        ...

    def add(self, request: AccessRequest) -> dict[str, Any]:
        """Add a rule; returns it with "Warnings" on packets it does not match."""
        ...

    def remove(self, ref: str) -> dict[str, Any]: ...

    def drift(self) -> list[str]:
        """Changes by other tools, as lines of a diff."""
        ...

    def findings(self) -> list[str]:
        """Problems that `repair` cannot fix, each with advice."""
        ...

    def repair(self) -> list[str]: ...
    def show(self, ref: str = "") -> dict[str, Any]: ...

    def explain(self, source: str, target: str, port: str) -> dict[str, Any]:
        """{"Text", "Explanation"} of the rule that decides on a packet: netkit.diagnose.explain."""
        ...


class Trace(Protocol):
    """One leg of a packet's path, on this host.  See netkit.diagnose.trace."""

    def leg(self, ask: Ask) -> Leg: ...

    def locate(self, name: str) -> Place:
        """Find a container or the host by name, id or address.  NotFound if not on this host."""
        ...


class Watch(Protocol):
    """Changes of networks and endpoints, by any engine, command or repair."""

    def watch(self, interval: float, *, counted: bool) -> AsyncIterator[dict[str, Any]]:
        """Lines in the format of runtime.watch.snapshot: "state" first, then "change" for each
        interval (seconds) with any, "traffic" for each if `counted`, "problem" for errors.

        InvalidSpec for an interval out of bounds, Busy where too many watch.
        """
        ...


class Ovn(Protocol):
    """Servers of an OVN on this host."""

    def up(self, address: str, other: str, *, insecure: bool) -> dict[str, Any]:
        """Begin an OVN, or join the servers of host `other`; what is made already is continued.

        `address` is for other hosts, "" for the default route's.  Without TLS only on loopback,
        unless `insecure`.  The status.
        """
        ...

    def down(self, host: str = "", *, force: bool) -> None:
        """Remove this host's servers, or those of another that will not return.

        Forbidden for the last one while there are networks; with `force` all the same, and no
        other server is asked.
        """
        ...

    def status(self) -> dict[str, Any]:
        """All servers, and whether most answer; one that does not costs a second."""
        ...


class Cluster(Protocol):
    """Membership of this host in a cluster."""

    def init(self, address: str) -> dict[str, Any]:
        """Create a cluster; `address` is for other hosts, "" for the default route's; status."""
        ...

    def join(self, other: str, address: str) -> dict[str, Any]:
        """Join the cluster of host `other` as a server; status."""
        ...

    def leave(self, host: str = "", *, force: bool = False) -> None:
        """Remove this host, or another that will not return, from the cluster.

        Forbidden while containers of this host are on global networks.  With `force` no other host
        is contacted.
        """
        ...

    def status(self) -> dict[str, Any]:
        """Servers, leader, hosts, problems; does not wait for the cluster."""
        ...
