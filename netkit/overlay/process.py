"""The overlay's process on one host: one thread between a core and the world.

    UDP 6783 --> |        | --> SQLite, then UDP 6783, then clients
    clients  --> |  core  | --> the kernel's tables (KernelPlane), the sleeve's workers (UserPlane)
    time     --> |        |

What a step says is done in that order.  If it cannot be written, the process ends, and the next one
goes on from what is written: nothing that was sent depends on more.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from typing import Any

from netkit.errors import NetkitError, StoreError
from netkit.overlay import verbs
from netkit.overlay.control_socket import ControlSocket
from netkit.overlay.core import Core, Pending, Probe, Settled, Step, Where
from netkit.overlay.fabric.fabric import PORT
from netkit.overlay.kernel_plane import KernelPlane
from netkit.overlay.loop import Loop, now
from netkit.overlay.losses import Losses
from netkit.overlay.probes import Probes
from netkit.overlay.server import Client
from netkit.overlay.sleeve.sockets import Pair
from netkit.overlay.store import Store
from netkit.overlay.user_plane import UserPlane
from netkit.overlay.verbs import Call, Done, Refused

GATHER = 0.02  # seconds in which changes of tables are put together
REPAIR = 30.0  # seconds between looks at all of the kernel's tables
AGAIN = 1.0  # seconds until what could not be written is tried again, at first
HINTED = 0.2  # seconds at least between repairs that an event of the kernel brings
COUNT, BUSY = 1.0, 0.25  # seconds between looks at what was received; while something is
REVIVE = 1.0  # seconds until a worker that cannot be started is tried again
OFTEN = {"members"}  # events that are not logged
WAITING = 4096  # calls that wait for an answer

log = logging.getLogger("netkit.overlay")


class Process:
    """`start`, then `turn` until `stopping`; if `resetting`, what is kept is to be forgotten."""

    def __init__(
        self, core: Core, store: Store, pair: Pair, loop: Loop, kernel: KernelPlane
    ) -> None:
        self._core, self._store, self._pair, self._loop = core, store, pair, loop
        self._kernel = kernel
        self._user = UserPlane(loop, pair, self._on_relay, self._on_source)
        self._losses = Losses()
        self._probes = Probes(loop, PORT, self._on_probe)
        self._waiting: dict[int | str, tuple[Client, int]] = {}
        self._subscribers: dict[Client, None] = {}
        self._steps: deque[Step] = deque()
        self._busy = False
        self._revision = -1
        self._tables_at = self._revive_at = float("inf")
        self._count_at = 0.0
        self._repair_at = self._repaired = 0.0
        self._no_fastdp = ""
        self._pause = AGAIN
        self._indexes: frozenset[int] | None = None
        self.stopping = self.resetting = False
        self._control = ControlSocket(loop, pair, self._on_datagram)
        kernel.watch(self._on_kernel)
        self._user.watch(self._on_death)

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """StoreError."""
        self.perform(self._core.start(now()))
        self._tables()

    def turn(self) -> None:
        """Wait for something to do, and do it.  StoreError: it could not be written."""
        tables = min(self._tables_at, self._repair_at, self._kernel.deadline)
        at = min(self._revive_at, self._count_at, self._control.deadline)
        self._loop.turn(min(self._core.deadline(), tables, at))
        if self._core.deadline() <= now():
            self.perform(self._core.tick(now()))
        if self._revive_at <= now():
            self._on_death()
        if self._count_at <= now():
            self._count()
        if self._control.deadline <= now():
            self._control.resume()
        if self._core.revision != self._revision:
            self._tables_at = min(self._tables_at, now() + GATHER)
        if min(self._tables_at, self._repair_at, self._kernel.deadline) <= now():
            self._tables()

    def close(self) -> None:
        """The kernel's tables stay: frames go on by VXLAN."""
        self._control.close()
        self._probes.close()
        self._user.close()
        self._kernel.close()

    # -- what a step says ------------------------------------------------------------------------

    def perform(self, step: Step) -> None:
        """StoreError: nothing of it was done."""
        self._steps.append(step)
        if self._busy:
            return  # of a step that follows from one that is being done
        self._busy = True
        try:
            while self._steps:
                self._perform(self._steps.popleft())
        finally:
            self._busy = False

    def _perform(self, step: Step) -> None:
        core = self._core
        if step.persist:
            sync = any(change.table in core.synced for change in step.persist)
            self._store.write(step.persist, sync=sync)
        self._admit()
        for send in step.send:
            if not self._send(send.datagram, send.to) and send.whole:
                self.perform(core.too_large(send.to, len(send.datagram), now()))
        for settled in step.settled:
            self._settle(settled)
        for what in step.notifications:
            self._tell(what)
        for probe in step.probes:
            self._probe(probe)
        for datagram in step.relayed:
            self._user.inject(datagram)
        if step.over:
            self.stopping = self.resetting = True

    def _admit(self) -> None:
        """Before an answer can come under an index, let it in; and sessions of workers, too."""
        indexes = self._core.indexes()
        before, self._indexes = self._indexes, indexes
        if indexes != before:
            self._pair.admit(self._core.lengths, indexes)
        if self._core.revision != self._revision:
            self._user.sessions(self._core.receiving())

    def _send(self, datagram: bytes, to: Where) -> bool:
        """False: it is too large.  All else is as if it was lost on its way."""
        try:
            self._pair.control.sendto(datagram, (self._pair.written(to.host), to.port))
        except OSError as e:
            return e.errno != errno.EMSGSIZE
        return True

    def _settle(self, settled: Settled) -> None:
        client, number = self._waiting.pop(settled.ticket, (None, 0))
        if client is None:
            return
        if settled.error is not None:
            client.send(_refused(number, settled.error))
        else:
            client.send(Done(number, settled.result))

    def _tell(self, what: dict[str, Any]) -> None:
        if what.get("event") not in OFTEN:
            words = (f"{key}={value}" for key, value in what.items())
            log.info("%s", " ".join(words))
        for client in list(self._subscribers):
            if client.open:
                client.send(verbs.Notification(what))
            else:
                del self._subscribers[client]

    # -- what comes ------------------------------------------------------------------------------

    def _on_datagram(self, datagram: bytes, source: Where, at: float) -> bool:
        """Whether it led to anything."""
        core = self._core
        step = core.receive(datagram, source, at)
        if not step and core.indexes() is self._indexes and core.revision == self._revision:
            return False
        self.perform(step)
        return True

    def _on_relay(self, number: int, datagram: bytes) -> None:
        self.perform(self._core.relay(number, datagram, now()))

    def _on_source(self, index: int, host: str, port: int) -> None:
        self.perform(self._core.observed(index, Where(host, port), now()))

    def _count(self) -> None:
        """Have peers know whether what they send gets lost."""
        at = now()
        received = self._user.received()
        self._count_at = at + (BUSY if received else COUNT)
        for number, lossy in self._losses.look(received, at):
            self.perform(self._core.lossy(number, lossy, at))

    def asked(self, client: Client, call: Call) -> None:
        """By a client on the control socket.  StoreError."""
        try:
            result = self._answer(client, call)
        except NetkitError as e:
            client.send(_refused(call.number, e))
            if isinstance(e, StoreError):
                raise  # the core is ahead of what is written
            return
        if not isinstance(result, Pending):
            client.send(Done(call.number, result))

    def _answer(self, client: Client, call: Call) -> Any:
        verb = call.verb
        if isinstance(verb, verbs.Subscribe):
            self._subscribers[client] = None
            return None
        if isinstance(verb, verbs.Stop):
            self.stopping = True
            return None
        if len(self._waiting) >= WAITING:
            raise NetkitError(f"{WAITING} calls wait for an answer already")
        result, step = self._core.do(verb, now())
        if isinstance(result, Pending):
            self._waiting[result.ticket] = client, call.number
        self.perform(step)
        if isinstance(verb, verbs.Status | verbs.Report):
            return {"overlay": result, "process": self._status(full=isinstance(verb, verbs.Report))}
        if self._core.revision != self._revision:
            self._tables()  # who asked finds it done
        return result

    def _status(self, *, full: bool) -> dict[str, Any]:
        outcome = self._kernel.outcome
        found: dict[str, Any] = {
            "workers": self._user.pids,
            "no_fastdp": outcome.no_fastdp,
            "problems": [*outcome.problems, *self._user.problems.values()],
        }
        if full:
            sent, received = self._user.counts()
            found |= {"sent": sent, "received": received}
        return found

    # -- tables ----------------------------------------------------------------------------------

    def _on_kernel(self) -> None:
        self._repair_at = min(self._repair_at, max(now() + GATHER, self._repaired + HINTED))

    def _on_death(self) -> None:
        """A worker has ended: its keys are not used again."""
        self._user.unwatch()
        self._revive_at = float("inf")
        try:
            lost = self._user.revive()
        except OSError as e:
            log.error("a worker of the sleeve cannot be started: %s", e)
            self._revive_at = now() + REVIVE
            return
        self._user.watch(self._on_death)
        receiving = self._core.receiving()
        numbers = {*lost.peers, *(receiving[i].number for i in lost.indexes if i in receiving)}
        log.warning("a worker of the sleeve has ended and was started again")
        if numbers:
            self.perform(self._core.renew(sorted(numbers), now()))
        self._revision = -1

    def _tables(self) -> None:
        """Have the kernel and the workers know what the core knows."""
        core, at = self._core, now()
        repair = self._repair_at <= at
        self._revision, self._tables_at = core.revision, float("inf")
        networks, reaches = core.networks(), core.reaches()
        fast = self._kernel.fast(reaches, at)
        self._store.write(self._kernel.changes(fast), sync=False)
        self._user.sessions(core.receiving())
        self._user.peers(reaches)
        self._losses.only([reach.number for reach in reaches.values()])
        self._user.only({network.vni for network in networks})
        remotes = [(network, core.remotes(network)) for network in networks]
        numbers = {peer: reach.number for peer, reach in reaches.items() if reach.where or (
            reach.path == "relay")}  # fmt: skip
        off = bool(self._kernel.outcome.no_fastdp)
        for network, (hosts, members) in remotes:
            by_kernel = fast if network.vxlan and not off else {}
            slow = [numbers[p] for p in members if p in numbers and p not in by_kernel]
            self._user.network(network, hosts, slow, numbers)
        self._kernel.apply(
            [(network, hosts) for network, (hosts, _) in remotes], reaches, fast, repair=repair
        )
        if repair:
            self._repaired = at
        if repair or self._repair_at > at + REPAIR:
            self._repair_at = at + REPAIR
        self._again(at)
        self._probes.listen(network.vxlan for network in networks if network.vxlan)
        if self._kernel.outcome.no_fastdp != self._no_fastdp:
            self._no_fastdp = self._kernel.outcome.no_fastdp
            self.perform(core.no_fastdp(self._no_fastdp, at))
            self._revision = -1  # broadcasts take another way

    def _again(self, at: float) -> None:
        """What could not be done is tried again soon, then less and less often."""
        if not self._kernel.outcome.problems:
            self._pause = AGAIN
            return
        self._repair_at = min(self._repair_at, at + self._pause)
        self._pause = min(self._pause * 2, REPAIR)

    def _probe(self, probe: Probe) -> None:
        if not self._probes.send(probe):
            self.perform(self._core.too_large(Where(probe.to, 0), probe.size, now()))

    def _on_probe(self, data: bytes, size: int) -> None:
        self.perform(self._core.saw_vxlan(data, size, now()))

    def withdraw(self) -> None:
        """Take back what is the overlay's in the kernel: networks go on on this host."""
        try:
            self._kernel.remove()
        except NetkitError as e:
            log.warning("what was set in the kernel could not all be taken back: %s", e)


def _refused(number: int, error: NetkitError) -> Refused:
    return Refused(number, type(error).__name__, str(error))
