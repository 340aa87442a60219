"""A simulated host with real sessions: handshakes and datagrams, with cryptography that is none."""

from __future__ import annotations

from plugins.weave.core import TABLES, Core
from plugins.weave.crypto import NO_PASSWORD
from plugins.weave.node import Node
from plugins.weave.ourselves import Settings
from plugins.weave.output import Output
from plugins.weave.step import Address, Step
from plugins.weave.trust import Trust
from tests.simulation.host import CRYPTO, GRAIN, Host

IP_UDP = 28


class WholeHost(Host):
    """As `Host`, with a `Node` for what is only played there."""

    node: Node

    def start(self) -> None:
        settings = Settings(nickname=f"host{self.number}", addresses=(self.address,))
        node = self.node = Node(
            identity=self.identity, crypto=CRYPTO, random=self.random.randbytes,
            settings=settings, psk=NO_PASSWORD, trust=Trust(False), boot=self.boot, now=self.now,
        )  # fmt: skip
        self.core = node.core
        take = node.core.take

        def watched(now: float) -> Output:
            output = take(now)
            self.watch(self, output)
            return output

        node.core.take = watched  # type: ignore[method-assign]
        rows: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        for (table, key), value in self.disk.rows.items():
            rows[table][key] = value
        self._do(node.start(rows, self.now), node.core)
        if self.founds is not None and self.core is not None:
            self._do(node.found(self.founds, self.now), node.core)
            self.founds = None
        for target in self.targets:
            node.core.mesh.connect(target, self.now)
        self.act()

    def _due(self) -> float:
        return self.node.deadline()

    def act(self) -> None:
        if self.core is not None:
            self._do(self.node.after(Step(), self.now), self.core)

    def _do(self, step: Step, core: Core) -> None:
        if self.core is not core:
            return
        self.disk.write(list(step.persist))
        if self.dies_before_sending and step.persist:
            self.crash()
            return
        weather, draw = self.network.weather, self.network.random
        for send in step.send:
            assert isinstance(send.to, Address)
            other, datagram = self.hosts.get(send.to), send.datagram
            if weather.damaged and draw.random() < weather.damaged:
                at = draw.randrange(len(datagram))
                datagram = datagram[:at] + bytes((datagram[at] ^ 4,)) + datagram[at + 1 :]
            if isinstance(other, WholeHost):
                self.network.send(
                    self.number, other.number, len(datagram) + IP_UDP,
                    other.arrive, self.address, datagram,
                )  # fmt: skip
        at = max(self._due() - self.ahead, self.clock.now + GRAIN)
        if at < self._wake:
            self._wake = at
            self.clock.at(at, self._tick, at, core)

    def _tick(self, at: float, core: Core) -> None:
        if core is self.core and at == self._wake:
            self._wake = float("inf")
            self._do(self.node.tick(self.now), core)

    def arrive(self, source: Address, datagram: bytes) -> None:
        if self.core is not None:
            self.clock.note(datagram)
            self._do(self.node.receive(datagram, source, self.now), self.core)
