"""What may be asked of networks, their firewall, the ways through them, and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from netkit.diagnose.trace.leg import Ask, Leg, Place
from netkit.spec import CreatedNetwork, EndpointRecord, NetworkRecord, NetworkSpec
from runtime.filters import Filters, PrunedNetworks
from runtime.network.access_request import AccessRequest


class Networks(Protocol):
    """The part of netkit.network.api.Networks front ends use; emits the events.

    Joining and leaving is the containers'.
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

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        """Other hosts a network has tunnels to, in the shape of the API: Name, IP, State."""
        ...

    def drift(self, refs: Sequence[str] = ()) -> dict[str, Any]:
        """What is not as it should be of these networks' interfaces, addresses, routes and
        neighbours, or of all: {"Drift": [{"Network", "Container", "Step", "Note"}], "Findings"}."""
        ...

    def prune(self, filters: Filters) -> PrunedNetworks:
        """Remove networks without endpoints, except the builtin ones.

        KernelError if all that could be removed stay.
        """
        ...


class Firewall(Protocol):
    """Who may reach whom.  Objects are in the shape of the API."""

    @property
    def enforced(self) -> bool:
        """Does netkit write rules at all?  Not with --iptables=false."""
        ...

    def rules(self, ref: str = "") -> list[dict[str, Any]]:
        """Access rules, in order; of one container if `ref` names one."""
        ...

    def add(self, request: AccessRequest) -> dict[str, Any]:
        """The rule, with what it does not do as "Warnings"."""
        ...

    def remove(self, ref: str) -> dict[str, Any]: ...

    def drift(self) -> list[str]:
        """What another tool changed, as lines of a diff."""
        ...

    def findings(self) -> list[str]:
        """What is not as it should be, and no repair changes: each with what to do."""
        ...

    def repair(self) -> list[str]: ...
    def show(self, ref: str = "") -> dict[str, Any]: ...

    def explain(self, source: str, target: str, port: str) -> dict[str, Any]:
        """{"Text", "Explanation"}: which rule decides about a packet: netkit.diagnose.explain."""
        ...


class Trace(Protocol):
    """This host's part of the way of a packet.  See netkit.diagnose.trace."""

    def leg(self, ask: Ask) -> Leg: ...

    def place(self, name: str) -> Place:
        """Who has that name, id or address.  NotFound if nobody here."""
        ...


class Cluster(Protocol):
    """This host's part in a cluster."""

    def init(self, address: str) -> dict[str, Any]:
        """Begin one, known to others by `address`, "" as it routes; its status."""
        ...

    def join(self, other: str, address: str) -> dict[str, Any]:
        """Be one more server of the cluster of host `other`; its status."""
        ...

    def leave(self, host: str = "", *, force: bool = False) -> None:
        """This host, or another that is gone for good.  Forbidden while containers of this one
        are on global networks.  By `force` without asking the others, who may all be dead."""
        ...

    def status(self) -> dict[str, Any]:
        """Servers, leader, hosts, problems.  Does not wait for the cluster."""
        ...
