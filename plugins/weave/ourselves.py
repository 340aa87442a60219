"""What a peer says of itself and of its host, and that it stays said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from plugins.weave import limits
from plugins.weave.crypto import Random
from plugins.weave.identity import Identity, PeerId
from plugins.weave.record import Kind
from plugins.weave.records import Records
from plugins.weave.routes import pack
from plugins.weave.statements import Host, Links, Network, encode, read, read_host
from plugins.weave.step import Address
from plugins.weave.taken import RecordChange

SETTLE: Final = 1.0
"""Seconds that news of ourselves is put together for."""
PAUSE: Final = 6.0
"""Seconds at least from one to the next."""
ANSWER: Final = 1.0
"""Seconds at least between two contradictions, which is less than suspicion ever lasts."""
OBSERVED: Final = 4
"""Addresses at which others see us, as we announce."""
LOCAL: Final = (Kind.ENDPOINT, Kind.NETWORK, Kind.NAME)
"""Kinds of what the host's netkitd has us say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user chose."""

    nickname: str = ""
    software: str = ""
    addresses: tuple[Address, ...] = ()
    """Where we can be reached, as far as the host knows."""
    discovery: bool = True
    """False: sessions with targets only."""
    overlays: tuple[str, ...] = ()
    """Prefixes of the overlay: no peer is looked for there."""


class Ourselves:
    """Our own records."""

    def __init__(
        self, identity: Identity, records: Records, settings: Settings, random: Random
    ) -> None:
        self._identity, self._records, self._settings = identity, records, settings
        self.instance = random(8)
        self._local: dict[tuple[int, bytes], bytes] = {}
        self._overlays: tuple[str, ...] | None = None
        self._seen: list[Address] = []
        self._direct: Sequence[PeerId] = ()
        self._say_at = self._restate_at = inf
        self._said = self._answered = -inf
        self._answer_at = inf
        self._accused = 0

    def start(self) -> None:
        """After the records of an earlier run have been loaded."""
        self._local = {
            record.place: record.value
            for kind in LOCAL
            for record in self._records.of(self._records.me, kind)
            if record.value is not None
        }
        self._say_host(self._incarnation() + 1)

    # The host's

    def put(self, kind: int, key: bytes, value: bytes) -> None:
        """Raises WireError: it is too much."""
        self._records.put(kind, key, value)
        self._local[kind, key] = value
        self._overlays = None

    def delete(self, kind: int, key: bytes) -> None:
        self._local.pop((kind, key), None)
        self._overlays = None
        self._records.delete(kind, key)

    def resync(self, kind: int, values: Mapping[bytes, bytes]) -> None:
        """Say exactly this of a kind."""
        for key in [key for at, key in self._local if at == kind and key not in values]:
            self.delete(kind, key)
        for key, value in values.items():
            self.put(kind, key, value)

    def overlays(self) -> tuple[str, ...]:
        """Prefixes that are reached through the overlay.

        By our settings and our networks only: what others say must not keep us from anybody.
        """
        if self._overlays is None:
            values = [v for (kind, _), v in self._local.items() if kind == Kind.NETWORK]
            networks = [network for v in values if (network := read(v, Network)) is not None]
            subnets = [subnet for network in networks for subnet in network.subnets]
            self._overlays = (*self._settings.overlays, *subnets)
        return self._overlays

    # Our own

    def links(self, direct: Sequence[PeerId], now: float) -> None:
        """We have sessions with these, not by relay."""
        self._direct = direct
        self._soon(now)

    def seen(self, address: Address, now: float) -> None:
        """A neighbour sees us there."""
        if address in self._settings.addresses or self._seen[:1] == [address]:
            return
        others = [seen for seen in self._seen if seen != address]
        if len(others) == len(self._seen):  # not known yet
            self._soon(now)
        self._seen = [address, *others][:OBSERVED]

    def _soon(self, now: float) -> None:
        self._say_at = min(self._say_at, max(now + SETTLE, self._said + PAUSE))

    def apply(self, change: RecordChange, now: float) -> None:
        """Of a record of our own: one that we did not make is an earlier life's."""
        host = None if change.new is None else read_host(change.new.value)
        if change.kind == Kind.HOST and host is not None and host.instance != self.instance:
            self._say_host(host.incarnation + 1)

    def contradict(self, incarnation: int, now: float) -> None:
        """Somebody says that we are gone; who says it again and again is answered now and then."""
        self._accused = max(self._accused, incarnation)
        self._answer_at = max(now, self._answered + ANSWER)
        if self._answer_at <= now:
            self._answer(now)

    def _answer(self, now: float) -> None:
        self._answer_at, self._answered = inf, now
        self._say_host(max(self._accused, self._incarnation()) + 1)

    def recovered(self, now: float) -> None:
        """Others remember more of us than we do: what the host says counts, once it is all here."""
        self._restate_at = now + 5 * SETTLE

    def deadline(self) -> float:
        return min(self._say_at, self._restate_at, self._answer_at)

    def tick(self, now: float) -> None:
        if self._answer_at <= now:
            self._answer(now)
        if self._say_at <= now:
            self._say_at, self._said = inf, now
            self._say_host(self._incarnation())
            packed = encode(Links(pack(list(self._direct[: limits.NEIGHBOURS]))))
            self._records.put(Kind.LINKS, b"", packed)
        if self._restate_at <= now:
            self._restate_at = inf
            self._restate()

    def _restate(self) -> None:
        for kind in LOCAL:
            for record in list(self._records.of(self._records.me, kind)):
                if record.place not in self._local:
                    self._records.delete(kind, record.key)
        for (at, key), value in self._local.items():
            self._records.put(at, key, value)

    def _incarnation(self) -> int:
        record = self._records.get(self._records.me, Kind.HOST)
        host = None if record is None else read_host(record.value)
        return 0 if host is None else host.incarnation

    def _say_host(self, incarnation: int) -> None:
        keys, settings = self._identity.public, self._settings
        addresses = tuple(dict.fromkeys([*settings.addresses, *sorted(self._seen)]))[:8]
        host = Host(
            keys.signing, keys.exchange, self.instance, incarnation, settings.nickname,
            addresses, (), settings.software,
        )  # fmt: skip
        self._records.put(Kind.HOST, b"", encode(host))
