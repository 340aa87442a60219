"""Protocol of the weave overlay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from runtime.network.weave.requests import (
    AttachRequest,
    DetachRequest,
    DnsRequest,
    ExposeRequest,
    HideRequest,
    LaunchRequest,
)


class Weave(Protocol):
    """This host's part in a weave overlay.  NotFound, from all but `status`: it does not run."""

    def status(self) -> dict[str, Any]:
        """{"Running", "Launched", "Status", "Process", "Warnings"}: `Status` is that of the
        overlay's core, as plugins/weave/status.py has it; null where the process does not run."""
        ...

    def report(self) -> dict[str, Any]:
        """{"overlay", "process", "Warnings"}, with counters."""
        ...

    def launch(self, request: LaunchRequest) -> dict[str, Any]:
        """Start the process, and make the network weave if it is missing; status.

        Conflict: it runs, or the default range overlaps with a route of the host.  InvalidSpec.
        """
        ...

    def stop(self) -> None:
        """End the process; networks go on on this host."""
        ...

    def reset(self, *, force: bool = False) -> list[str]:
        """End it, give its addresses to another peer, and forget all of it, and the network
        weave: this host becomes a new peer.  With `force` no other peer is waited for.

        Names of the containers that were taken off the network; they run on.
        """
        ...

    def connect(self, peers: Sequence[str], *, replace: bool = False) -> None:
        """Keep contact with these, HOST or HOST:PORT, too; with `replace` with no others."""
        ...

    def forget(self, peers: Sequence[str]) -> None: ...

    def rmpeer(self, peer: str, *, force: bool = False) -> dict[str, Any]:
        """Take over the addresses of a peer that will not return: {"Addresses", "Text"}."""
        ...

    def prime(self) -> None:
        """Own the range, as the first host."""
        ...

    def attach(self, request: AttachRequest) -> list[str]:
        """Give a running container addresses on network weave: those that it has by that.

        NotFound: there is no such container.  Conflict: it does not run, or an address is in use.
        """
        ...

    def address_warnings(self, addresses: Sequence[str]) -> list[str]:
        """Of addresses requested on network weave: those that lie in another network's subnet."""
        ...

    def detach(self, request: DetachRequest) -> list[str]:
        """Take addresses from a running container, or all: those that it has lost."""
        ...

    def expose(self, request: ExposeRequest) -> list[str]:
        """Have this host be on network weave: its address."""
        ...

    def hide(self, request: HideRequest) -> list[str]:
        """Take this host off it: the addresses that it has lost."""
        ...

    def ps(self) -> list[dict[str, Any]]:
        """Who is on the overlay's networks here: {"Container", "Name", "Mac", "Addresses",
        "Network"}; the host is the container weave:expose.  Also while the process does not run."""
        ...

    def add_name(self, request: DnsRequest) -> None: ...
    def remove_name(self, request: DnsRequest) -> None: ...

    def lookup(self, name: str) -> dict[str, list[str]]:
        """{"Addresses"} of a name, or {"Names"} of an address."""
        ...
