"""`Crypto` that is fast and keeps no secret, for simulations of hundreds of peers.

What does not belong together is told apart as the real one tells it apart: a changed byte, another
key, counter or associated data, a signature of someone else.  But whoever knows a public key can
make what its owner makes, and nothing is hidden: only tests and simulations may use it.
"""

from __future__ import annotations

import itertools
import random as pseudo
from collections.abc import Callable

from plugins.weave.crypto import KEY, NO_PASSWORD, SIGNATURE, TAG, digest


class FakeAead:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, counter: int, plaintext: bytes, associated: bytes) -> bytes:
        return plaintext + self._tag(counter, plaintext, associated)

    def open(self, counter: int, sealed: bytes, associated: bytes) -> bytes | None:
        plaintext, tag = sealed[:-TAG], sealed[-TAG:]
        return plaintext if tag == self._tag(counter, plaintext, associated) else None

    def _tag(self, counter: int, plaintext: bytes, associated: bytes) -> bytes:
        lengths = len(associated).to_bytes(4, "big") + counter.to_bytes(8, "big")
        return digest(TAG, lengths, associated, plaintext, key=self._key)


class FakeCrypto:
    def exchange_public(self, private: bytes) -> bytes:
        return digest(KEY, b"exchange", private)

    def shared(self, private: bytes, public: bytes) -> bytes | None:
        if public == bytes(KEY):
            return None
        return digest(KEY, *sorted((self.exchange_public(private), public)))

    def signing_public(self, private: bytes) -> bytes:
        return digest(KEY, b"signing", private)

    def sign(self, private: bytes, message: bytes) -> bytes:
        return _signature(self.signing_public(private), message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return len(public) == KEY and signature == _signature(public, message)

    def aead(self, key: bytes) -> FakeAead:
        return FakeAead(key)

    def stretch(self, password: str) -> bytes:
        return digest(KEY, b"password", password.encode()) if password else NO_PASSWORD


def _signature(public: bytes, message: bytes) -> bytes:
    return digest(KEY, message, key=public).ljust(SIGNATURE, b"\0")


def seeded(seed: int) -> Callable[[int], bytes]:
    """Random bytes for tests: the same for the same seed."""
    return pseudo.Random(seed).randbytes


def counted(start: int = 1) -> Callable[[int], bytes]:
    """Bytes that tell what was drawn when: 1, 2, 3, ..., big-endian."""
    numbers = itertools.count(start)
    return lambda size: next(numbers).to_bytes(max(size, 1), "big")[-size:] if size else b""
