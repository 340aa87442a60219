"""Keep the kernel's tables as the core has it, and what an earlier process has set until it knows.

A process that starts finds the kernel forwarding by VXLAN to peers with which it has no session
yet.  Where each was reached is kept in a row, and goes on being right for HOLD seconds.  With a new
session a core tries the way anew: for LINGER seconds the kernel goes on as before, where that is
still to the same address and in clear.  What it says of a session that went by fastdp is done at
once: then the way is broken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, ip_address

import msgspec

from netkit.errors import InvalidSpec, NetkitError
from netkit.overlay.core import Reach, Remote
from netkit.overlay.fabric import Fabric, Member, NetworkTable, Outcome, Table
from netkit.overlay.fabric import Reach as Way
from netkit.overlay.loop import Loop
from netkit.overlay.store import Row, Rows
from netkit.overlay.verbs import Network

TABLE = "process_fastdp"
"""Rows: a peer -> where the kernel reaches it."""
HOLD = 60.0  # seconds from the start; a peer that is silent for as long is lost
LINGER = 5.0  # seconds from when the core last said so

log = logging.getLogger("netkit.overlay")


class _Held(msgspec.Struct, frozen=True, array_like=True):
    address: str
    sources: tuple[str, ...]

    @property
    def way(self) -> Way:
        sources = frozenset(IPv4Address(each) for each in self.sources)
        return Way(path="fastdp", address=IPv4Address(self.address), sources=sources)


class KernelPlane:
    def __init__(self, loop: Loop, rows: Rows, now: float) -> None:
        self._loop = loop
        self._fabric = Fabric()
        self._held = _read(rows.get(TABLE, {}))
        self._until = now + HOLD
        # When the core last said that it is fastdp, and of which session (an index)
        self._said: dict[bytes, tuple[float, int]] = dict.fromkeys(self._held, (now, 0))
        self.deadline = float("inf")  # when `fast` may differ
        self._last = Outcome()
        self._table = Table()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when another tool has changed what this keeps."""

        def look() -> None:
            if self._fabric.wait(0):
                changed()

        for fd in self._fabric.files:
            self._loop.read(fd, look)

    @property
    def outcome(self) -> Outcome:
        return self._last

    def fast(self, reaches: Mapping[bytes, Reach], now: float) -> dict[bytes, Way]:
        """Peers that the kernel reaches."""
        found: dict[bytes, Way] = {}
        self.deadline = float("inf")
        for peer, reach in reaches.items():
            way = _way(reach)
            if way is not None and way.path == "fastdp":
                found[peer], self._said[peer] = way, (now, reach.index)
        for peer, held in self._held.items():
            said = reaches.get(peer)
            until = self._until
            if said is not None and said.path != "none":
                at, index = self._said.get(peer, (now, 0))
                until = at + LINGER if index != said.index and _allows(said, held) else now
            if peer not in found and now < until:
                found[peer] = held.way
                self.deadline = min(self.deadline, until)
        self._said = {peer: at for peer, at in self._said.items() if peer in found}
        return found

    def changes(self, fast: Mapping[bytes, Way]) -> list[Row]:
        """Rows that differ; they are written before `apply`."""
        held = {
            peer: _Held(str(way.address), tuple(sorted(map(str, way.sources))))
            for peer, way in fast.items()
        }
        gone = [Row(TABLE, peer, None) for peer in self._held if peer not in held]
        new = [
            Row(TABLE, peer, msgspec.msgpack.encode(each))
            for peer, each in held.items() if self._held.get(peer) != each
        ]  # fmt: skip
        self._held = held
        return gone + new

    def apply(
        self, networks: Sequence[tuple[Network, Sequence[Remote]]],
        reaches: Mapping[bytes, Reach], fast: Mapping[bytes, Way], *, repair: bool,
    ) -> None:  # fmt: skip
        """What cannot be done is logged, and shown by `outcome`."""
        peers = {p.hex(): way for p, reach in reaches.items() if (way := _way(reach))}
        peers |= {peer.hex(): way for peer, way in fast.items()}
        tables = [_network(network, remotes) for network, remotes in networks]
        table = Table(networks=tuple(tables), peers=peers)
        try:
            if repair:
                self._fabric.repair()
            outcome = self._fabric.apply(table)
        except (NetkitError, OSError) as e:
            outcome = Outcome(problems=(str(e),), no_fastdp=self._last.no_fastdp)
        for problem in outcome.problems:
            if problem not in self._last.problems:
                log.warning("%s", problem)
        self._last = outcome

    def remove(self) -> None:
        """Take back all that was set.  KernelError."""
        self._fabric.remove()

    def close(self) -> None:
        for fd in self._fabric.files:
            self._loop.forget(fd)
        self._fabric.close()


def _allows(reach: Reach, held: _Held) -> bool:
    """Whether frames in clear may still go there, and come from there."""
    clear = reach.path == "sleeve" and not reach.key and bool(reach.sources)
    return clear and reach.where is not None and reach.where.host == held.address


def _way(reach: Reach) -> Way | None:
    if reach.path == "none":
        return None
    address = None
    if reach.where is not None:
        found = ip_address(reach.where.host)
        address = found if isinstance(found, IPv4Address) else None
    if reach.path == "fastdp" and address is not None:
        return Way(path="fastdp", address=address, sources=reach.sources)
    return Way(path="sleeve", sources=reach.sources)


def _network(network: Network, remotes: Sequence[Remote]) -> NetworkTable:
    members = []
    for remote in remotes:
        try:
            found = [ip_address(each) for each in remote.addresses]
            v4 = tuple(each for each in found if isinstance(each, IPv4Address))
            members.append(Member(mac=remote.mac, addresses=v4, peer=remote.peer.hex()))
        except (InvalidSpec, ValueError) as e:  # what a peer says is not to be believed
            log.warning("%s of %s: %s", network.name, remote.peer.hex()[:12], e)
    return NetworkTable(
        vni=network.vni, bridge=network.bridge, tap=network.tap, vxlan=network.vxlan,
        name=network.name, members=tuple(members),
    )  # fmt: skip


def _read(rows: Mapping[bytes, bytes]) -> dict[bytes, _Held]:
    found = {}
    for peer, value in rows.items():
        try:
            held = msgspec.msgpack.decode(value, type=_Held)
            _ = held.way
            found[peer] = held
        except (msgspec.MsgspecError, ValueError):
            continue
    return found
