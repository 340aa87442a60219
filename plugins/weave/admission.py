"""Who is answered, and at which cost: the door against strangers and floods.

- mac1 shows that the sender knows the pre-shared key; who does not gets no answer, and costs a
hash. - Up to FREE first messages a second are worked on as they come.  Above that a sender has to
show, by a
  cookie that was sent to its address, that it receives what is sent there (mac2); each address then
  gets its own few a second, and all of them together at most MOST.
- A first message that was worked on is not again for as long as it is remembered.

The scheme is WireGuard's (section 5.3 and 5.4.7 of its paper); its mac1 is keyed by the responder's
public key, which a first contact does not know.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from plugins.weave.crypto import KEY, MAC, Crypto, Random, derive, mac, same
from plugins.weave.step import Address, Where
from plugins.weave.wire import SALT, Cookie, Handshake, Kind, Pattern

FREE, FREE_BURST = 20.0, 50.0  # first messages a second without a cookie
MOST, MOST_BURST = 100.0, 200.0  # with one, of all addresses together
EACH, EACH_BURST = 10.0, 5.0  # with one, of one address
SOURCES = 1024  # addresses that are counted at once
REMEMBERED = 4096  # first messages
SECRET_FOR = 120.0  # seconds that cookies are made with one secret; they are good for as long again
NO_MAC = bytes(MAC)


class Bucket:
    """So many a second, and some at once."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now

    def take(self, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Admitted:
    """Work on it, or send `reply` instead, or (neither) do nothing."""

    yes: bool = False
    reply: Cookie | None = None


class Admission:
    def __init__(self, crypto: Crypto, random: Random, psk: bytes, now: float) -> None:
        self._crypto, self._random = crypto, random
        self._mac_key, self._cookie_key = derive(psk, b"mac1"), derive(psk, b"cookie")
        self._free = Bucket(FREE, FREE_BURST, now)
        self._most = Bucket(MOST, MOST_BURST, now)
        self._sources: OrderedDict[bytes, Bucket] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._secrets = [random(KEY), random(KEY)]  # this one's, the one's before
        self._secret_since = now

    def message(
        self, kind: Kind, pattern: Pattern, index: int, noise: bytes, cookie: bytes = b""
    ) -> Handshake:
        """A message of ours with its macs; `cookie` is one that its receiver gave us."""
        bare = Handshake(kind, pattern, index, noise, NO_MAC, NO_MAC)
        mac1 = mac(self._mac_key, bare.before_mac1)
        with_mac1 = Handshake(kind, pattern, index, noise, mac1, NO_MAC)
        if not cookie:
            return with_mac1
        return Handshake(kind, pattern, index, noise, mac1, mac(cookie, with_mac1.before_mac2))

    def genuine(self, datagram: bytes) -> bool:
        """Whether the sender of a handshake message, HANDSHAKE bytes, knows the pre-shared key."""
        before, mac1 = datagram[: -2 * MAC], datagram[-2 * MAC : -MAC]
        return same(mac1, mac(self._mac_key, before))

    def admit(self, message: Handshake, source: Where, now: float) -> Admitted:
        """For a `genuine` first message."""
        if message.mac1 in self._seen:
            return Admitted()
        if self._free.take(now):
            return self._remember(message)
        if message.mac2 == NO_MAC or not self._shows(message, source, now):
            return Admitted(reply=self._reply(message, source, now))
        if not (self._bucket(source, now).take(now) and self._most.take(now)):
            return Admitted()
        return self._remember(message)

    def read_cookie(self, reply: Cookie, mac1: bytes) -> bytes | None:
        """The cookie for the message whose mac1 that is; None: it is not a genuine answer to it."""
        key = derive(self._cookie_key, reply.salt)
        return self._crypto.aead(key).open(0, reply.sealed, mac1)

    def _remember(self, message: Handshake) -> Admitted:
        self._seen[message.mac1] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return Admitted(yes=True)

    def _reply(self, message: Handshake, source: Where, now: float) -> Cookie:
        salt = self._random(
            SALT
        )  # a key of its own for each, so that 0 is the first counter of each
        cookie = mac(self._secret(now)[0], place(source))
        sealed = self._crypto.aead(derive(self._cookie_key, salt)).seal(0, cookie, message.mac1)
        return Cookie(message.index, salt, sealed)

    def _shows(self, message: Handshake, source: Where, now: float) -> bool:
        return any(
            same(message.mac2, mac(mac(secret, place(source)), message.before_mac2))
            for secret in self._secret(now)
        )

    def _secret(self, now: float) -> list[bytes]:
        if now - self._secret_since >= SECRET_FOR:
            self._secrets = [self._random(KEY), self._secrets[0]]
            if now - self._secret_since >= 2 * SECRET_FOR:
                self._secrets[1] = self._random(KEY)
            self._secret_since = now
        return self._secrets

    def _bucket(self, source: Where, now: float) -> Bucket:
        key = source.host.encode() if isinstance(source, Address) else source.peer
        bucket = self._sources.get(key)
        if bucket is None:
            bucket = self._sources[key] = Bucket(EACH, EACH_BURST, now)
        self._sources.move_to_end(key)
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)
        return bucket


def place(where: Where) -> bytes:
    """What a cookie is bound to; different for different places."""
    if isinstance(where, Address):
        return b"direct" + where.port.to_bytes(2, "big") + where.host.encode()
    return b"relayed" + where.peer
