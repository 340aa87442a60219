"""A thread that keeps this host and the cluster in agreement.

    cluster changed, or our database did, or a second went by
        --> write our rows --> create and drop networks --> update tunnels, flows, names

It compares and never remembers what happened, so a kill at any time does no harm.  While
no server answers, everything stays as it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from netkit import threads
from netkit.cluster.client import Client
from netkit.cluster.state import Held, Member, Own, Shared, endpoint_of
from netkit.errors import NetkitError, NotFound
from netkit.ipam.pools import parse_subnets
from netkit.network.global_networks import GlobalNetworks
from netkit.spec import NetworkRecord

HEARTBEAT = 1.0  # seconds between looks without a hint
TURN = 1.0  # seconds that a turn waits for servers; the next is soon, and others wait for this one
QUIET = 0.01  # seconds after a hint: what comes together is looked at together

log = logging.getLogger("netkit.cluster")


class Following:
    """`me` returns this host, and may raise a NetkitError; `keep` is called in every turn."""

    def __init__(
        self,
        client: Client,
        global_networks: GlobalNetworks,
        me: Callable[[], Member],
        keep: Callable[[], None],
    ) -> None:
        self._client = client
        self._global_networks = global_networks
        self._me = me
        self._keep = keep
        self.hint = client.hint
        self.shared: Shared | None = None  # as last seen; None until then
        self.problems: dict[str, str] = {}  # of what ("the cluster", a network's name): why not
        self._closed = False
        self.turns = threading.Lock()  # held in a turn, and while this host joins or leaves
        self._thread = threads.looping("netkit-following", self._run, over=lambda: self._closed)
        client.flush = self.flush

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, and close the connection: a turn may be waiting for an answer."""
        self._closed = True
        self.hint.set()
        self._client.close()
        if self._thread.ident is not None:
            self._thread.join()
            self._client.close()  # which a turn may have opened again meanwhile

    def _run(self) -> None:
        while not self._closed:
            with self.turns:
                self._guarded("the server", self._keep)
                if self._client.remotes:
                    self._guarded("the cluster", self._turn)
            if self.hint.wait(HEARTBEAT if self._client.remotes else None):
                time.sleep(QUIET)
                self.hint.clear()

    def _guarded(self, what: str, act: Callable[[], object]) -> None:
        """Log a failure once; the next turn tries again."""
        try:
            act()
        except NetkitError as error:
            if self.problems.get(what) != str(error):
                log.warning("%s: %s", what, error)
            self.problems[what] = str(error)
        except Exception as error:
            log.exception("%s", what)
            self.problems[what] = f"internal error: {type(error).__name__}: {error}"
        else:
            if self.problems.pop(what, None):
                log.info("%s: all is well again", what)

    def _turn(self) -> None:
        lost = self._settle(TURN)
        # Users of this host go on meanwhile: what they have made before the look is in it, and
        # what they removed before is not.  What they do from now on is newer than the look.
        there = self._global_networks.present()
        self._client.removed.clear()
        shared = self._client.look(TURN)
        self.shared = shared
        me = self._me().id
        for held in lost:
            self._global_networks.evict(held.network, held.holder)
        used = {e.network for e in self._global_networks.endpoints()}
        for id, record in there.items():
            if id not in shared.networks and id in used:
                self._guarded(record.spec.name, partial(self._restore, record))
            elif id not in shared.networks:
                self._guarded(record.spec.name, partial(self._drop, id))
        for id, record in shared.networks.items():
            if id in there:
                act = partial(self._global_networks.set_remote_state, id, shared.around(id, me))
                self._guarded(record.spec.name, act)
            elif not self._global_networks.exists(id) and id not in self._client.removed:
                self._guarded(record.spec.name, partial(self._adopt, record, shared))
        known = {r.spec.name for r in (*there.values(), *shared.networks.values())}
        self.problems = {
            k: v for k, v in self.problems.items() if k in known or k.startswith("the ")
        }

    def _adopt(self, record: NetworkRecord, shared: Shared) -> None:
        self._global_networks.adopt(record)
        log.info("network %s: created by another host, now here as well", record.spec.name)
        self._global_networks.set_remote_state(record.id, shared.around(record.id, self._me().id))

    def _drop(self, id: str) -> None:
        with suppress(NotFound):  # a user of this host removes it at the same time
            self._global_networks.remove(id)

    def _restore(self, record: NetworkRecord) -> None:
        """Create a network again: one with our containers is only missing in a new cluster."""
        self._client.create(record, parse_subnets(record.spec.subnets))
        log.warning("network %s: missing in the cluster, created there again", record.spec.name)

    def flush(self) -> None:
        """Write this host's rows now."""
        self._settle()

    def _settle(self, patience: float | None = None) -> tuple[Held, ...]:
        return self._client.settle(self._me(), self._own, patience)

    def _own(self) -> Own:
        """Busy first: those that finish in between have rows by then."""
        busy = self._client.busy()
        records = self._global_networks.endpoints()
        names = {(r.network, r.sandbox): r.owner_name for r in records}
        me = self._me().id
        return Own(
            busy=busy,
            held=frozenset(
                Held(
                    network=network,
                    address=address,
                    holder=holder,
                    owner=names.get((network, holder), ""),
                )
                for network, address, holder in self._global_networks.held()
            ),
            endpoints={r.id: endpoint_of(r, me) for r in records if r.address},
        )
