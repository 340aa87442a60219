"""Both workers and the tables they were sent, for the process that has the control plane.

A worker that dies is started anew and sent everything again, but for keys: its counters are gone,
and so is what it remembered of replays.  Peers and sessions with a key are put again by the caller,
with new ones; until then their frames are dropped, never sent in clear.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import msgspec

from netkit.overlay.sleeve import tables
from netkit.overlay.sleeve.process import Dead, Worker
from netkit.overlay.sleeve.sealing import Keys
from netkit.overlay.sleeve.sockets import Pair
from netkit.overlay.sleeve.tables import (
    Counts,
    PutHost,
    PutPeer,
    PutSession,
    Received,
    Source,
)

ROLES = ("transmit", "receive")
TURN, NEWS = 64, 256  # messages that are read in a row, and bytes of one


@dataclass(frozen=True, slots=True)
class Lost:
    """What a worker's death took: peers to which, and sessions in which, new keys are needed."""

    peers: tuple[int, ...] = ()
    indexes: tuple[int, ...] = ()


@dataclass(slots=True)
class _Network:
    tap: int
    hosts: dict[bytes, PutHost] = field(default_factory=dict)
    members: tuple[int, ...] = ()


class Plane:
    """One thread uses it.  What a method sends is in force when it returns; ValueError: refused.

    Where a worker is dead, or dies meanwhile, it is sent with the next `revive`.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._networks: dict[int, _Network] = {}
        self._peers: dict[int, PutPeer] = {}
        self._sessions: dict[int, PutSession] = {}
        self._sealing: Keys[bool] = Keys(bool)  # those of workers that died are not used again
        self._opening: Keys[bool] = Keys(bool)
        self._workers: dict[str, Worker] = {}
        try:
            for role in ROLES:
                self._workers[role] = self._start(role)
        except BaseException:
            self.close()
            raise

    def _start(self, role: str) -> Worker:
        return Worker(role, self._pair.data.fileno())

    @property
    def files(self) -> tuple[int, ...]:
        """Can be read when a worker has ended: then it is time for `revive`."""
        return tuple(worker.pidfd for worker in self._workers.values())

    @property
    def pids(self) -> dict[str, int]:
        return {role: worker.pid for role, worker in self._workers.items()}

    # what workers are sent

    def put_network(self, network: int, tap: int) -> None:
        """`tap` is a file of `tap.attach`, ours from now on."""
        self.drop_network(network)
        self._networks[network] = _Network(tap)
        self._tell(tables.PutNetwork(network), [tap])

    def drop_network(self, network: int) -> None:
        """No frame of it is sent or received any more; its device is detached."""
        known = self._networks.pop(network, None)
        if known is not None:
            self._tell(tables.DropNetwork(network))
            os.close(known.tap)

    def put_peer(self, peer: PutPeer) -> None:
        """Where its frames go from now on.  ValueError too where its key is a dead worker's."""
        self._sealing.of(peer.key)
        self._tell(peer)
        former, self._peers[peer.peer] = self._peers.get(peer.peer), peer
        if former is not None and former.key != peer.key:
            self._sealing.forget(former.key)

    def drop_peer(self, peer: int) -> None:
        """It is forgotten, with its counts; its sessions are the caller's to drop."""
        former = self._peers.pop(peer, None)
        if former is not None:
            self._sealing.forget(former.key)
        self._tell(tables.DropPeer(peer))

    def put_session(self, session: PutSession) -> None:
        """Datagrams with its index are received from now on.  As `put_peer`."""
        self._opening.of(session.key)
        self._tell(session)
        former, self._sessions[session.index] = self._sessions.get(session.index), session
        if former is not None and former.key != session.key:
            self._opening.forget(former.key)
        self._pair.only(self._sessions)

    def drop_session(self, index: int) -> None:
        former = self._sessions.pop(index, None)
        if former is not None:
            self._opening.forget(former.key)
            self._pair.only(self._sessions)
            self._tell(tables.DropSession(index))

    def put_host(
        self, network: int, mac: bytes, peer: int,
        addresses: Iterable[IPv4Address | IPv6Address] = (),
    ) -> None:  # fmt: skip
        """A container of another peer.  KeyError: no such network."""
        packed = tuple(address.packed for address in addresses)
        message = PutHost(network=network, mac=mac, peer=peer, addresses=packed)
        self._networks[network].hosts[mac] = message
        self._tell(message)

    def drop_host(self, network: int, mac: bytes) -> None:
        """KeyError: no such network."""
        if self._networks[network].hosts.pop(mac, None) is not None:
            self._tell(tables.DropHost(network, mac))

    def members(self, network: int, peers: Iterable[int]) -> None:
        """Who gets broadcasts of a network, once each.  KeyError: no such network."""
        known = self._networks[network]
        known.members = tuple(peers)
        self._tell(tables.Members(network, known.members))

    def _tell(self, message: tables.Message, files: Iterable[int] = ()) -> None:
        for worker in self._workers.values():
            try:
                worker.send(message, tuple(files))
            except Dead:
                continue  # `files` says so to the caller

    # what is asked

    def counts(self) -> tuple[Counts, Counts]:
        """(sent, received), since each worker's start; empty of one that is dead."""
        found = []
        for role in ROLES:
            try:
                answer = self._workers[role].send(tables.AskCounts())
            except Dead:
                answer = Counts()
            found.append(answer if isinstance(answer, Counts) else Counts())
        return found[0], found[1]

    def received(self) -> dict[int, Received]:
        """Of peers that something came from since this was asked for last."""
        try:
            answer = self._workers["receive"].send(tables.AskReceived())
        except Dead:
            return {}
        return answer.peers if isinstance(answer, tables.Reception) else {}

    @property
    def news(self) -> int:
        """Can be read when `sources` has something."""
        return self._workers["receive"].news.fileno()

    def sources(self) -> list[Source]:
        """Where sealed data comes from by now, some of it."""
        found = []
        with suppress(OSError, msgspec.MsgspecError):
            for _ in range(TURN):
                if not (data := self._workers["receive"].news.recv(NEWS)):
                    break  # it has ended
                found.append(tables.source(data))
        return found

    # death

    def revive(self) -> Lost:
        """Start workers that have ended, and send them all that they need to go on.  OSError."""
        peers: tuple[int, ...] = ()
        indexes: tuple[int, ...] = ()
        for role, worker in self._workers.items():
            if not worker.ended():
                continue
            fresh = self._start(role)
            worker.close()
            self._workers[role] = fresh
            if role == "transmit":
                peers = self._forget_peers()
            else:
                indexes = self._forget_sessions()
            self._repeat(fresh)
        return Lost(peers, indexes)

    def _forget_peers(self) -> tuple[int, ...]:
        lost = tuple(number for number, peer in self._peers.items() if peer.key)
        for number in lost:
            del self._peers[number]
        self._sealing.spend()
        return lost

    def _forget_sessions(self) -> tuple[int, ...]:
        lost = tuple(index for index, session in self._sessions.items() if session.key)
        for index in lost:
            del self._sessions[index]
        self._opening.spend()
        self._pair.only(self._sessions)
        return lost

    def _repeat(self, worker: Worker) -> None:
        try:
            for number, network in self._networks.items():
                worker.send(tables.PutNetwork(number), [network.tap])
                for host in network.hosts.values():
                    worker.send(host)
                worker.send(tables.Members(number, network.members))
            for peer in self._peers.values():
                worker.send(peer)
            for session in self._sessions.values():
                worker.send(session)
        except Dead:
            return  # once more

    def close(self) -> None:
        """End the workers; the devices stay, detached.  The sockets are the caller's."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        for network in self._networks.values():
            os.close(network.tap)
        self._networks.clear()
