"""What the parts of the address space know in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from plugins.weave.crypto import Crypto, Random
from plugins.weave.identity import Identity, PeerId, PublicKeys, short
from plugins.weave.outbox import Outbox

FORGOTTEN: Final = 3600.0  # s after which it does not matter when a peer was lost


@dataclass(slots=True, kw_only=True)
class Context:
    identity: Identity
    crypto: Crypto
    random: Random
    keys: Callable[[PeerId], PublicKeys | None]  # of a peer that is known
    boot: bytes  # another one whenever the clock may have begun anew
    out: Outbox
    since: float  # when this process began
    name: Callable[[PeerId], str] = short  # for people
    alive: dict[PeerId, float] = field(default_factory=dict)  # other peers, since when
    dead: dict[PeerId, float] = field(default_factory=dict)  # those that were alive, since when
    joined: dict[PeerId, bytes] = field(default_factory=dict)  # the ledger that each follows

    me: PeerId = field(init=False)

    def __post_init__(self) -> None:
        self.me = self.identity.peer  # a hash: made once

    def lives(self, peer: PeerId) -> bool:
        return peer == self.me or peer in self.alive

    def sign(self, text: bytes) -> bytes:
        return self.crypto.sign(self.identity.signing, text)

    def signed(self, peer: PeerId, text: bytes, signature: bytes) -> bool:
        known = self.identity.public if peer == self.me else self.keys(peer)
        return known is not None and self.crypto.verify(known.signing, text, signature)

    def jitter(self) -> float:
        """0.5 to 1.5."""
        return 0.5 + int.from_bytes(self.random(2), "big") / 65536

    def view(self, alive: frozenset[PeerId], now: float) -> None:
        """Which other peers can be reached, directly or by a relay."""
        for peer in sorted(set(self.alive) - alive):
            del self.alive[peer]
            self.dead[peer] = now
        for peer in sorted(alive - set(self.alive) - {self.me}):
            self.alive[peer] = now
            self.dead.pop(peer, None)
        for peer in [each for each, at in self.dead.items() if now > at + FORGOTTEN]:
            del self.dead[peer]
