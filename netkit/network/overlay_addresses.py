"""Addresses that hosts of an overlay agree on: what is asked of the overlay's process.

For networks of drivers with the trait `overlay`.  The rows of this host (table `addresses`) stay
the truth: what the overlay has for a holder without a row is released, what a row has and the
overlay has not is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Interface, IPv4Network
from typing import Protocol


class OverlayAddresses(Protocol):
    """Thread-safe, and may take seconds: do not call within a transaction.

    `network` is an id, `holder` the id of the sandbox.  Where the overlay was not launched on this
    host, addresses are this host's own business: `allocate` returns None, `claim` has no effect.
    Where it was launched and does not answer: Busy, a retry may succeed.
    """

    def allocate(self, network: str, subnet: IPv4Network, holder: str) -> IPv4Interface | None:
        """Allocate an address of the subnet, with the subnet's length.

        A holder that has one in the subnet gets the same.  NoRoom: all are in use.  Busy: not now,
        and why.  InvalidSpec: the overlay does not give out addresses of that subnet.
        """
        ...

    def claim(self, network: str, address: IPv4Interface, holder: str) -> None:
        """Allocate this address; fine if `holder` has it.  Conflict: it is in use, and where."""
        ...

    def release(self, network: str, address: IPv4Interface, holder: str) -> None:
        """Release one address that has no row here.  It is not allocated again for a while."""
        ...

    def holding(self, network: str, holder: str) -> AbstractContextManager[None]:
        """While inside, do not release what `holder` has and has no row here yet."""
        ...

    def notify_changed(self) -> None:
        """Notify of changed rows or endpoints: addresses without a row are released soon."""
        ...


class NoOverlay:
    """The overlay of hosts that have launched none."""

    def allocate(self, network: str, subnet: IPv4Network, holder: str) -> IPv4Interface | None:
        return None

    def claim(self, network: str, address: IPv4Interface, holder: str) -> None:
        return None

    def release(self, network: str, address: IPv4Interface, holder: str) -> None:
        return None

    @contextmanager
    def holding(self, network: str, holder: str) -> Iterator[None]:
        yield

    def notify_changed(self) -> None:
        return None
