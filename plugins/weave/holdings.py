"""What this host owns and uses, by realm: rows of its own database and what the ledger says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from plugins.weave.allocator import Pool
from plugins.weave.entries import Realm
from plugins.weave.identity import PeerId
from plugins.weave.ledger import Ledger
from plugins.weave.outbox import Outbox
from plugins.weave.step import Event
from plugins.weave.wire import WireError

TABLE: Final = "weave_address"
"""Rows: realm's id, address (4 or 16 bytes) -> whose it is; b"": it is resting."""
REALMS: Final = "weave_realm"
"""Rows: realm's id -> the realm."""
IDENT: Final = 128  # bytes
MOST: Final = 4096  # realms of which something is kept


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """An address in use here is another peer's by now: what has it here has to stop using it."""

    realm: Realm
    address: int
    ident: bytes


class Holdings:
    def __init__(self, me: PeerId, out: Outbox) -> None:
        self._me = me
        self._out = out
        self.pools: dict[bytes, Pool] = {}
        self._ledger: Ledger | None = None

    def restore(
        self,
        realms: dict[bytes, bytes],
        uses: dict[bytes, bytes],
        ledger: Ledger | None,
        now: float,
    ) -> None:
        """WireError: a row is damaged."""
        try:
            for row in realms.values():
                realm = msgspec.msgpack.decode(row, type=Realm)
                self.pools[realm.id] = Pool(realm)
        except (msgspec.MsgspecError, ValueError) as error:
            raise WireError(f"a realm of addresses is damaged: {error}") from None
        if ledger is not None:
            self.pool(ledger.main)
            for realm in ledger.realms():
                self.pools.setdefault(realm.id, Pool(realm))
        for key, ident in sorted(uses.items()):
            pool = self.pools.get(key[:16])
            if pool is None:
                raise WireError("an address in use is of no realm that is known")
            pool.restore(int.from_bytes(key[16:], "big"), ident, now)
        if ledger is not None:
            self.refresh(ledger)

    def known(self, realm: Realm, ledger: Ledger) -> bool:
        """Whether there can be such a realm, and room for it."""
        if realm.id in self.pools:
            return True
        founded = realm.creator == ledger.genesis.founder.peer and realm.version == 0
        return founded and len(self.pools) < MOST

    def pool(self, realm: Realm) -> Pool:
        """Made, and kept, if there is none."""
        if realm.id not in self.pools:
            self.pools[realm.id] = Pool(realm)
            self._out.save(REALMS, realm.id, msgspec.msgpack.encode(realm))
            if self._ledger is not None:
                self._refresh(self.pools[realm.id], self._ledger)
        return self.pools[realm.id]

    def forget(self, realm: Realm) -> None:
        """Its network is gone."""
        if self.pools.pop(realm.id, None) is not None:
            self._out.save(REALMS, realm.id, None)

    def refresh(self, ledger: Ledger) -> None:
        """Own what the ledger says, and no more."""
        self._ledger = ledger
        for realm in ledger.realms():
            if any(owner == self._me for _, _, owner in ledger.pieces(realm)):
                self.pool(realm)
        for pool in self.pools.values():
            self._refresh(pool, ledger)

    def _refresh(self, pool: Pool, ledger: Ledger) -> None:
        runs: list[tuple[int, int]] = []
        for first, last, owner in ledger.pieces(pool.realm):
            if owner != self._me:
                continue
            if runs and runs[-1][1] + 1 == first:
                runs[-1] = runs[-1][0], last
            else:
                runs.append((first, last))
        if runs == pool.owned:
            return
        for address, ident in pool.own(runs):
            self._write(pool, address, None)
            if ident:
                self._out.events.append(Lost(pool.realm, address, ident))

    def _write(self, pool: Pool, address: int, ident: bytes | None) -> None:
        size = 4 if pool.whole.family == 4 else 16
        self._out.save(TABLE, pool.realm.id + address.to_bytes(size, "big"), ident)

    def taken(self, pool: Pool, address: int, ident: bytes) -> None:
        self._write(pool, address, ident)

    def release(self, pool: Pool, address: int, now: float) -> None:
        use = pool.uses.get(address)
        if use is not None and use.ident:
            pool.release(address, now)
            self._write(pool, address, b"")

    def rested(self, now: float) -> bool:
        """Whether addresses are free again."""
        any_ = False
        for pool in self.pools.values():
            for address in pool.rested(now):
                self._write(pool, address, None)
                any_ = True
        return any_

    def deadline(self) -> float:
        return min((pool.next_rested() for pool in self.pools.values()), default=float("inf"))

    @property
    def owns(self) -> bool:
        return any(pool.owned for pool in self.pools.values())

    @property
    def used(self) -> bool:
        return any(pool.uses for pool in self.pools.values())
