"""A simulated host with all that the overlay's process calls: sessions, ways, and what planes hear.

Beside the others' invariants: no key is put away and taken up again, nothing goes by fastdp or in
clear that either side wants sealed, no probe is sent where fastdp may not be.
"""

from __future__ import annotations

from plugins.weave.core import Core
from plugins.weave.identity import PeerId
from plugins.weave.local import Network
from plugins.weave.output import Output
from plugins.weave.overlay import TABLES, Overlay
from plugins.weave.planes import Accept, AcceptNoMore, PeerGone, PeerPath, ProbeVxlan, Way
from plugins.weave.settings import Settings
from plugins.weave.step import Address, Event, Step
from tests.simulation.checks import NETWORK, Violation
from tests.simulation.host import CRYPTO, Host
from tests.simulation.network import Clock
from tests.simulation.network import Network as Wire
from tests.simulation.whole import IP_UDP, WholeHost

LANE = Network(id=NETWORK, name="net", vni=7)
MTU = 1500


class CompleteHost(WholeHost):
    """Two of three worlds have a password; in one of these some hosts trust the others' subnet."""

    overlay: Overlay

    def __init__(
        self, number: int, clock: Clock, network: Wire, seed: int, hosts: dict[Address, Host]
    ) -> None:
        self.password = "" if seed % 3 == 0 else "secret"
        self.trusts = not self.password or (seed % 3 == 1 and number % 2 == 0)
        super().__init__(number, clock, network, seed, hosts)

    def start(self) -> None:
        self.paths: dict[PeerId, PeerPath] = {}
        self.accepts: dict[int, Accept] = {}
        self.put_away: set[bytes] = set()
        self.overlay = Overlay(
            identity=self.identity, crypto=CRYPTO, random=self.random.randbytes, boot=self.boot,
            now=self.now, settings=Settings(
                nickname=f"host{self.number}", addresses=(self.address,), password=self.password,
                trusted_subnets=("10.1.0.0/16",) if self.trusts else (), mtu=MTU,
                range=str(self.founds) if self.founds else "10.32.0.0/12",
            ),
        )  # fmt: skip
        self.node = self.overlay.node
        self.core = core = self.node.core
        self._watch_output(core)
        rows: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        for (table, key), value in self.disk.rows.items():
            rows[table][key] = value
        self._do(self.overlay.start(rows, self.now), core)
        if self.founds is not None and self.core is not None:
            self._do(self.overlay.prime(self.now), core)
            self.founds = None
        for target in self.targets:
            if self.core is not None:
                self._do(self.overlay.connect(target, self.now), core)
        if self.core is not None:
            self._do(self.overlay.put(LANE, self.now), core)

    def _watch_output(self, core: Core) -> None:
        take = core.take

        def watched(now: float) -> Output:
            output = take(now)
            self.watch(self, output)
            return output

        core.take = watched  # type: ignore[method-assign]

    def act(self) -> None:
        if self.core is not None:
            self._settled(self.node.after(Step(), self.now), self.core)

    def _settled(self, step: Step, core: Core) -> None:
        self._do(self.overlay.reactions.settle(step, self.now), core)

    def _due(self) -> float:
        return self.overlay.deadline()

    def _tick(self, at: float, core: Core) -> None:
        if core is self.core and at == self._wake:
            self._wake = float("inf")
            self._do(self.overlay.tick(self.now), core)

    def arrive(self, source: Address, datagram: bytes) -> None:
        if self.core is not None:
            self.clock.note(datagram)
            self._do(self.overlay.receive(datagram, source, self.now), self.core)

    def _do(self, step: Step, core: Core) -> None:
        sent = tuple(s for s in step.send if not s.whole or len(s.datagram) + IP_UDP <= MTU)
        super()._do(Step(step.persist, sent, step.events), core)
        if self.core is core:
            for event in step.events:
                self._plane(event)

    # What planes are told

    def _plane(self, event: Event) -> None:
        match event:
            case PeerPath():
                self._check(event)
                self.paths[event.peer] = event
            case PeerGone():
                if self.paths.pop(event.peer, None) is None:
                    raise Violation("a peer is gone that there was no way to")
            case Accept():
                if not event.key and not self._clear(event.peer):
                    raise Violation("data is taken in clear that is to be sealed")
                self.accepts[event.index] = event
            case AcceptNoMore():
                del self.accepts[event.index]
            case ProbeVxlan():
                self._probe(event)

    def _clear(self, peer: PeerId) -> bool:
        other = next((host for host in self.hosts.values() if host.me == peer), None)
        return other is None or (self.trusts and getattr(other, "trusts", True))

    def _check(self, path: PeerPath) -> None:
        before = self.paths.get(path.peer)
        if before is not None and before.key and before.key != path.key:
            self.put_away.add(before.key)
        if path.key in self.put_away:
            raise Violation("a key is taken up that was put away")
        if not self._clear(path.peer) and (path.way is Way.FASTDP or not path.key or path.sources):
            raise Violation("what is to be sealed goes in clear")

    def _probe(self, probe: ProbeVxlan) -> None:
        other = self.hosts.get(probe.to)
        if isinstance(other, CompleteHost) and probe.size + IP_UDP <= MTU:
            if not self._clear(other.me):
                raise Violation("a probe where fastdp may not be")
            self.network.send(
                self.number, other.number, probe.size + IP_UDP, other.saw, probe.data, probe.size
            )

    def saw(self, data: bytes, size: int) -> None:
        if self.core is not None:
            self._do(self.overlay.saw_vxlan(data, size, self.now), self.core)
