"""One session: keys in use, counters, and what was received.

From either key of a handshake two are derived, for control and for data, so that no nonce is ever
used twice under one key: both directions have keys of their own, so do both streams, and a counter
lives no longer than its session.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plugins.weave.crypto import Crypto, derive
from plugins.weave.handshake import Agreed, Hello
from plugins.weave.identity import PeerId, PublicKeys
from plugins.weave.replay import ReplayWindow
from plugins.weave.step import Where
from plugins.weave.wire import Kind, Transport, header

REKEY_AFTER = 120.0  # seconds, by the initiator; the responder waits REKEY_GRACE longer
REKEY_GRACE = 15.0
REKEY_EARLY = 12.0  # at most so much earlier, by chance: what began together need not go on so
REJECT_AFTER = 180.0  # seconds after which nothing is sent or accepted any more
REKEY_MESSAGES = 2**32  # counters of either stream
REJECT_MESSAGES = 2**33
CONFIRM_WITHIN = 15.0  # seconds, or the session is forgotten


class Spent(Exception):
    """All counters that a key is good for are used."""


@dataclass(frozen=True, slots=True)
class DataKeys:
    """What a worker needs to seal and open data (type 6): AES-256-GCM, `HEADER` bytes associated.

    The nonce is 4 zero bytes and the counter in 8, big-endian.  Handed out once: a worker that lost
    its counter must not go on with the same key, see `Sessions.renew`.
    """

    peer: PeerId
    index: int  # in the header of what we receive
    remote: int  # in the header of what we send
    sending: bytes = field(repr=False)
    receiving: bytes = field(repr=False)
    epoch: int  # of this process: counts sessions
    expires: float  # `now` from which on nothing is sent or accepted


class Session:
    def __init__(
        self,
        crypto: Crypto,
        agreed: Agreed,
        *,
        index: int,
        initiated: bool,
        source: Where,
        epoch: int,
        now: float,
        early: float = 0.0,
    ) -> None:
        self.keys: PublicKeys = agreed.keys
        self.peer = agreed.keys.peer
        self.hello: Hello = agreed.hello
        self.version = agreed.version
        self.said = agreed.said
        self.index, self.remote, self.epoch = index, agreed.hello.index, epoch
        self.initiated = initiated
        self.born = now
        self._early = REKEY_EARLY * early  # from 0 to 1
        self.confirmed = False
        self.source = source  # where it was agreed on
        self._sealing = crypto.aead(derive(agreed.sending, b"control"))
        self._opening = crypto.aead(derive(agreed.receiving, b"control"))
        self._counter = 0
        self._window = ReplayWindow()
        self.data = DataKeys(
            peer=self.peer,
            index=index,
            remote=self.remote,
            sending=derive(agreed.sending, b"data"),
            receiving=derive(agreed.receiving, b"data"),
            epoch=epoch,
            expires=now + REJECT_AFTER,
        )

    @property
    def highest(self) -> int:
        """The highest counter received; -1: none."""
        return self._window.highest

    @property
    def sent(self) -> int:
        """Counters used, of control."""
        return self._counter

    def seal(self, kind: Kind, plaintext: bytes) -> bytes:
        """A datagram of CONTROL or PROBE.  Spent: a new session is needed."""
        counter = self._counter
        if counter >= REJECT_MESSAGES:
            raise Spent
        self._counter += 1
        head = header(kind, self.remote, counter)
        return head + self._sealing.seal(counter, plaintext, head)

    def open(self, datagram: Transport) -> bytes | None:
        """None: it is forged, damaged, or was received before."""
        plaintext = self._opening.open(datagram.counter, datagram.sealed, datagram.header)
        if plaintext is None or not self._window.take(datagram.counter):
            return None
        return plaintext

    @property
    def expires(self) -> float:
        return self.born + (REJECT_AFTER if self.confirmed else CONFIRM_WITHIN)

    def expired(self, now: float) -> bool:
        return now >= self.expires

    def rekey_at(self) -> float:
        """When a new session is to be asked for."""
        if self._counter >= REKEY_MESSAGES:
            return self.born
        grace = 0.0 if self.initiated else REKEY_GRACE
        return self.born + REKEY_AFTER + grace - self._early
