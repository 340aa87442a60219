"""Containers of other hosts on networks of an overlay, and names that were added to these.

Other than for a network of a cluster nothing is made on the host for them: what frames need is the
overlay's process's own.  They are known to the resolver, and to access rules that name them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netkit.dns.zones import Published
from netkit.errors import NetkitError
from netkit.locks import KeyedLocks
from netkit.network.context import NetworkContext
from netkit.network.policy_sync import PolicySync
from netkit.network.remote import RemoteContainer, RemoteHost, RemoteState
from netkit.spec import EndpointRecord

NOTHING = RemoteState()


class OverlayMembers:
    """Thread-safe; `update` is for one thread at a time."""

    def __init__(
        self, parts: NetworkContext, locks: KeyedLocks, policy_sync: PolicySync
    ) -> None:
        self._p = parts
        self._locks = locks
        self._policy_sync = policy_sync
        self._published: dict[str, tuple[RemoteState, tuple[Published, ...]]] = {}
        self._due: dict[str, set[RemoteContainer]] = {}  # whose rules may have to change

    def networks(self) -> list[str]:
        """Ids of this host's networks that are an overlay's."""
        registry = self._p.registry
        return [e.record.id for e in registry.all() if registry.traits(e.record).overlay]

    def update(self, states: Mapping[str, RemoteState]) -> None:
        """These are all, by network id: what is not in it is nowhere else.

        What is the same as before costs no write.  KernelError: access rules could not be changed;
        they are with the next call.
        """
        networks = self.networks()
        failed: list[NetkitError] = []
        for network in networks:
            try:
                self._set(network, states.get(network, NOTHING))
            except NetkitError as error:
                failed.append(error)
        for removed in self._published.keys() - set(networks):
            self._published.pop(removed, None)
            self._due.pop(removed, None)
        if failed:
            raise failed[0]

    def _set(self, network: str, state: RemoteState) -> None:
        p = self._p
        with self._locks.hold(network):
            before = p.registry.remote_state.of(network)
            if not p.registry.exists(network):
                return
            if state != before:
                p.registry.remote_state.put(network, state)
                due = self._due.setdefault(network, set())
                due |= {*before.neighbours} ^ {*state.neighbours}
        if network not in self._due:
            return
        records = [n.record() for n in sorted(self._due[network], key=lambda n: n.id)]
        try:
            self._policy_sync.endpoints_changed(records, own=False)
        finally:
            p.names.refresh(network)  # after the rules: who is found by name is subject to them
        del self._due[network]

    def hosts(self, network: str) -> tuple[RemoteHost, ...]:
        """Those with containers on a network."""
        return self._p.registry.remote_state.of(network).hosts

    def host_of(self, record: EndpointRecord) -> str:
        """Name of the host that a container elsewhere is on; "": not known."""
        state = self._p.registry.remote_state.of(record.network)
        of = {n.id: n.host for n in state.neighbours}
        return next((h.name for h in state.hosts if h.id == of.get(record.id)), "")

    def published(self, network: str) -> tuple[Published, ...]:
        """What the resolver answers besides containers of this host."""
        state = self._p.registry.remote_state.of(network)
        known = self._published.get(network)
        if known is None or known[0] is not state:  # a row is decoded once
            known = self._published[network] = state, tuple(published_by(state))
        return known[1]


def published_by(state: RemoteState) -> Iterator[Published]:
    """Names of other hosts' containers, and added ones."""
    for n in state.neighbours:
        if n.names and n.address:
            yield Published(names=n.names, addresses=(n.address, *n.more_addresses))
    for name in state.names:
        yield Published(names=(name.name,), addresses=name.addresses)
