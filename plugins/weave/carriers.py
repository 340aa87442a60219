"""What those who carry data are sent of peers: ways and keys, from what sessions and paths say.

Data of a peer goes in clear only if neither side wants it sealed and no network in common is
encrypted.  Workers use a key once: an index that was used in clear takes nothing any more when data
is to be sealed, one that was used sealed stays so; in either case new keys are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from plugins.weave.events import (
    HeardDirectly,
    KeysAdded,
    KeysGone,
    KeysUsed,
    Lossy,
    Lost,
    Moved,
    Probed,
)
from plugins.weave.identity import PeerId
from plugins.weave.networks import Common
from plugins.weave.path import TAKES_VXLAN, Path, Paths, Probe
from plugins.weave.planes import Accept, AcceptNoMore, PeerGone, PeerPath, Way
from plugins.weave.session import DataKeys
from plugins.weave.step import Address, Event, Where

LINGER: Final = 2.0
"""Seconds that data in clear goes on under the index before: the other side may have yet to learn
of the new one first, for it takes nothing in clear that it does not know of."""


@dataclass(slots=True)
class _Peer:
    number: int
    index: int = 0  # of the session in use; 0: there is none
    demanded: bool = True  # by either side, for this session
    network: bool = False  # a network in common is encrypted
    since: float = -inf  # that index is in use
    sealed: bool = True  # what goes out and comes in under that index
    lossy: bool = False  # says the other side
    reported: PeerPath | None = None


class Carriers:
    """`where`, `features` of a peer's session; `hop`: the name of who passes on what is for it.

    `demands`: whether it is not for the other side alone if data from and to there is sealed.
    """

    def __init__(
        self,
        paths: Paths,
        where: Callable[[PeerId], Where | None],
        features: Callable[[PeerId], int],
        hop: Callable[[PeerId], str],
        demands: Callable[[Where], bool] = lambda where: True,
    ) -> None:
        self.paths = paths
        self._where, self._features, self._hop = where, features, hop
        self._demands = demands
        self._peers: dict[PeerId, _Peer] = {}
        self._by_number: dict[int, PeerId] = {}
        self._keys: dict[int, DataKeys] = {}
        self._accepted: dict[int, Accept] = {}
        self._was_sealed: dict[int, None] = {}
        self._put_away: dict[int, None] = {}
        self._common: Mapping[PeerId, Common] = {}
        self._count = 0
        self._due: dict[PeerId, float] = {}
        self._wake = inf
        self.events: list[Event] = []
        """To be reported, in order."""
        self.renew: dict[PeerId, None] = {}
        """Peers that new keys are needed with."""

    def number(self, peer: PeerId) -> int:
        return self._peer(peer).number

    def peer(self, number: int) -> PeerId | None:
        return self._by_number.get(number)

    def path(self, peer: PeerId) -> PeerPath | None:
        """What was reported of a peer last; None: there is no session."""
        known = self._peers.get(peer)
        return known.reported if known else None

    def indexes(self) -> frozenset[int]:
        return frozenset(self._keys)

    def _peer(self, peer: PeerId) -> _Peer:
        if peer not in self._peers:
            self._count += 1
            self._peers[peer] = _Peer(self._count)
            self._by_number[self._count] = peer
        return self._peers[peer]

    # -- what sessions report ----------------------------------------------------------------------

    def on(self, event: Event, now: float) -> None:
        match event:
            case KeysAdded():
                keys = event.keys
                self._keys[keys.index] = keys
                self._accept(keys, sealed=True)
            case KeysUsed():
                known = self._peer(event.peer)
                known.index, known.demanded, known.since = event.index, event.sealed, now
                self.refresh(event.peer, now)
            case KeysGone():
                self._gone(event.index, now)
            case Moved() | HeardDirectly():
                self.refresh(event.peer, now)
            case Probed():
                if event.peer in self.paths.of:
                    self.paths.of[event.peer].probed(event.number, now)
                    self.refresh(event.peer, now)
            case Lossy():
                self._peer(event.peer).lossy = event.lossy
                self.refresh(event.peer, now)
            case Lost():
                self._lost(event.peer)

    def want(self, common: Mapping[PeerId, Common], now: float) -> None:
        """What networks in common with each peer need."""
        changed = [peer for peer in self._peers if common.get(peer) != self._common.get(peer)]
        self._common = common
        for peer in changed:
            self.refresh(peer, now)

    def _gone(self, index: int, now: float) -> None:
        keys = self._keys.pop(index, None)
        self._was_sealed.pop(index, None)
        self._put_away.pop(index, None)
        if self._accepted.pop(index, None) is not None:
            self.events.append(AcceptNoMore(index))
        known = self._peers.get(keys.peer) if keys else None
        if keys and known and known.index == index:
            known.index = 0
            self._lost(keys.peer)
        elif keys and known and known.reported and known.reported.index == keys.remote:
            self.refresh(keys.peer, now)

    def _lost(self, peer: PeerId) -> None:
        known = self._peers.get(peer)
        self.paths.drop(peer)
        self._due.pop(peer, None)
        if known is None:
            return
        known.index, known.lossy = 0, False
        if known.reported is not None:
            known.reported = None
            self.events.append(PeerGone(peer, known.number))

    def forget(self, peer: PeerId) -> None:
        """It is known no more: should it come back, it gets another number."""
        if not any(keys.peer == peer for keys in self._keys.values()) and peer in self._peers:
            del self._by_number[self._peers.pop(peer).number]

    # -- what follows ----------------------------------------------------------------------------

    def refresh(self, peer: PeerId, now: float) -> None:
        """Report what is different now of a peer."""
        known, where = self._peers.get(peer), self._where(peer)
        keys = self._keys.get(known.index) if known else None
        if known is None or keys is None or where is None:
            return
        path, common = self.paths.path(peer), self._common.get(peer)
        known.network = common is not None and common.encrypted
        self._seal(peer, known)
        path.takes_vxlan = bool(self._features(peer) & TAKES_VXLAN)
        path.sealed = known.demanded
        path.distrusted = known.demanded and not self._demands(where)
        path.at(where, now)
        path.wants(common is not None, common.need if common else None, now)
        path.check(self.paths.no_fastdp, now)
        self._accept_in_use(peer, known, where)
        used = self._used(known, keys, now)
        sources = () if known.demanded or self.paths.no_fastdp else _sources(where)
        reported = PeerPath(
            peer=peer, number=known.number, way=path.way, reason=self._reason(peer, path),
            where=where, index=used.remote, key=used.sending if known.sealed else b"",
            size=path.size, mtu=path.mtu, sources=sources, whole=not known.lossy,
        )  # fmt: skip
        if reported.key and used.index in self._put_away:
            reported = self._without_keys(reported, known.reported)
            self.renew[peer] = None
        self._send(known, reported)
        self._schedule(peer, known, path)

    def _send(self, known: _Peer, reported: PeerPath) -> None:
        if reported != known.reported:
            self._put_away_key(known.reported, reported)
            known.reported = reported
            self.events.append(reported)

    @staticmethod
    def _without_keys(reported: PeerPath, before: PeerPath | None) -> PeerPath:
        """Until there are new ones: under those before, if they are good still, or not at all."""
        if before is not None and before.key:
            return replace(reported, index=before.index, key=before.key)
        return replace(
            reported, way=Way.NONE, where=None, index=0, key=b"", sources=(),
            reason="none: it has to be sealed, and new keys are awaited",
        )  # fmt: skip

    def _put_away_key(self, before: PeerPath | None, reported: PeerPath) -> None:
        if before is not None and before.key and before.key != reported.key:
            for keys in self._keys.values():
                if keys.sending == before.key:
                    self._put_away[keys.index] = None

    def _seal(self, peer: PeerId, known: _Peer) -> None:
        """Work out whether data is sealed."""
        known.sealed = known.demanded or known.network
        if known.sealed:
            self._was_sealed[known.index] = None
        elif known.index in self._was_sealed:
            known.sealed = True
            self.renew[peer] = None

    def _used(self, known: _Peer, keys: DataKeys, now: float) -> DataKeys:
        """Under which index data goes out."""
        reported = known.reported
        before = [
            each for each in self._keys.values()
            if reported is not None and each.remote == reported.index and each.peer == keys.peer
        ]  # fmt: skip
        if not before or before[0] is keys:
            return keys
        if known.sealed:  # both sides opened a session, and agreed on this one after all
            return before[0] if keys.index in self._put_away else keys
        return before[0] if reported and not reported.key and now < known.since + LINGER else keys

    def _reason(self, peer: PeerId, path: Path) -> str:
        if path.way is Way.RELAY:
            reason = f"relay by {self._hop(peer)}: no direct session"
        else:
            reason = path.reason(self.paths.no_fastdp)
        lossy = self._peers[peer].lossy and path.way is not Way.FASTDP
        return f"{reason}; datagrams get lost" if lossy else reason

    def _accept_in_use(self, peer: PeerId, known: _Peer, where: Where) -> None:
        """Data under the keys in use, and those before them, in clear or sealed."""
        for index, accepted in list(self._accepted.items()):
            if accepted.peer != peer:
                continue
            in_clear = not accepted.key
            if known.sealed and in_clear:
                del self._accepted[index]
                self.events.append(AcceptNoMore(index))
                self.renew[peer] = None
            elif not known.sealed and (index == known.index or in_clear):
                self._accept(self._keys[index], sealed=False, where=where)

    def _accept(self, keys: DataKeys, *, sealed: bool, where: Where | None = None) -> None:
        accept = Accept(
            index=keys.index, peer=keys.peer, number=self.number(keys.peer),
            key=keys.receiving if sealed else b"", where=where,
        )  # fmt: skip
        if self._accepted.get(keys.index) != accept:
            self._accepted[keys.index] = accept
            self.events.append(accept)

    # -- time ------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `tick` is to be called, which may turn out to be early.  Costs nothing."""
        return self._wake

    def _schedule(self, peer: PeerId, known: _Peer, path: Path) -> None:
        """When to look at a peer again."""
        due = path.deadline(self.paths.no_fastdp)
        keys, reported = self._keys.get(known.index), known.reported
        if keys and reported and not reported.key and reported.index != keys.remote:
            due = min(due, known.since + LINGER)
        self._due[peer] = due
        self._wake = min(self._wake, due)

    def tick(self, now: float) -> list[Probe]:
        """Probes to be sent."""
        probes: list[Probe] = []
        for peer in [peer for peer, due in self._due.items() if due <= now]:
            if peer in self.paths.of:
                probes += self.paths.tick(peer, now)
            self.refresh(peer, now)
        self._wake = min(self._due.values(), default=inf)
        return probes


def _sources(where: Where) -> tuple[str, ...]:
    return (where.host,) if isinstance(where, Address) and ":" not in where.host else ()
