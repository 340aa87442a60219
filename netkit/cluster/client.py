"""Implements netkit.network.remote.Cluster over one OVSDB connection."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from netkit.cluster import transactions
from netkit.cluster.schema import SCHEMA
from netkit.cluster.state import Held, Member, Own, Shared
from netkit.cluster.tls import Certificates
from netkit.driver import Subnet
from netkit.ipam.pools import UsedSubnet
from netkit.kernel.ovs.idl import Write
from netkit.kernel.ovs.servers import Servers
from netkit.model import IPAddress
from netkit.network.remote import not_in_cluster
from netkit.spec import NetworkRecord


class Server(Servers):
    """Any one of the servers of a cluster; followers do as well as the leader."""

    subject: ClassVar[str] = "the cluster"
    schema: ClassVar[dict[str, Any]] = SCHEMA

    def _unanswered(self) -> str:
        from netkit.cluster.streams import TlsStream  # see python_ovs

        trouble = f" ({TlsStream.trouble})" if TlsStream.trouble else ""
        return (
            f"the cluster does not answer at {self.remote}{trouble}: networks of scope global can "
            "be used, and not be changed, until most of its servers are back (netkit cluster "
            "status)"
        )

    def _undecided(self) -> str:
        return (
            f"the cluster did not answer within {self.connect:g} s: most of its servers may be "
            "down (netkit cluster status); what was asked for may happen when they are back"
        )


class Client:
    """Client of the shared database.  Thread-safe.  Has no cluster until `use` sets one."""

    def __init__(self, me: str, certificates: Certificates | None = None) -> None:
        """Raise KernelError, InvalidSpec where these certificates cannot be used."""
        if certificates is not None:
            from netkit.cluster.streams import enable  # see python_ovs

            enable(certificates)
        self._me = me
        self.hint = threading.Event()  # the cluster, or this host's database, has changed
        self._server: Server | None = None
        self._choosing = threading.Lock()
        self._lock = threading.Lock()
        self._busy: Counter[tuple[str, str]] = Counter()
        self.removed: set[str] = set()  # networks removed here; emptied before each look
        self.flush: Callable[[], None] = lambda: None  # release at once what is due

    @property
    def remotes(self) -> str:
        """tcp:HOST:PORT,... or ssl:HOST:PORT,...; "" where there is no cluster."""
        server = self._server
        return server.remote if server is not None else ""

    def use(self, remotes: str) -> None:
        """Connect to the cluster of these servers; "" for none.

        Requests under way go on where the servers of one cluster change.
        """
        with self._choosing:
            server = self._server
            if server is not None and remotes:
                server.redirect(remotes)
            elif server is not None:
                self._server = None
                server.close()
            elif remotes:
                server = Server(remotes)
                server.changed.append(self.hint.set)
                server.start()
                self._server = server

    def close(self) -> None:
        self.use("")

    # netkit.network.remote.Cluster

    def create(self, record: NetworkRecord, subnets: Sequence[Subnet]) -> None:
        self._transact(partial(transactions.create, record, subnets))

    def remove(self, record: NetworkRecord) -> None:
        if self._server is None:
            return  # left over from a cluster that this host is in no more
        # Addresses that this host released just now may still have rows, which forbid it.
        self.flush()
        self._transact(partial(transactions.remove, record.id))
        # `Following` may have looked before the commit, and would create the network again.
        self.removed.add(record.id)

    def subnets(self) -> list[UsedSubnet]:
        return self.look().subnets()

    def allocate(
        self, record: NetworkRecord, subnet: Subnet, holder: str, owner: str, ip: str = ""
    ) -> IPAddress:
        taking = transactions.Take(record, subnet, self._me, holder, owner, ip)
        self._transact(taking)
        assert taking.given is not None
        return taking.given

    @contextmanager
    def holding(self, network: str, holder: str) -> Iterator[None]:
        with self._lock:
            self._busy[network, holder] += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= Counter([(network, holder)])

    def notify_changed(self) -> None:
        self.hint.set()

    # for the daemon

    def busy(self) -> frozenset[tuple[str, str]]:
        with self._lock:
            return frozenset(self._busy)

    def look(self, patience: float | None = None) -> Shared:
        """All that is shared, as of now.  KernelError where no server answers within `patience` s,
        by default as long as an election may take."""
        return self._must().view(transactions.shared, patience)

    def settle(
        self, me: Member, own: Callable[[], Own], patience: float | None = None
    ) -> tuple[Held, ...]:
        """Write this host's rows; return addresses of its own that other hosts have by now."""
        settling = transactions.Settle(me, own)
        self._must().transact(settling, patience)
        return settling.lost

    def forget(self, id: str) -> None:
        """Delete a host and all its rows."""
        self._transact(partial(transactions.forget, id))

    def _transact(self, write: Write) -> None:
        self._must().transact(write)

    def _must(self) -> Server:
        server = self._server
        if server is None:
            raise not_in_cluster()
        return server
