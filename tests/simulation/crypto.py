"""Cryptography that costs next to nothing: for thousands of peers, and for no one's secrets.

A public key is a hash of the private one, and a signature a hash keyed by the public key: anyone
could forge it, but a test that wants to has to do so on purpose.
"""

from __future__ import annotations

from hashlib import blake2s

from plugins.weave.crypto import KEY, NO_PASSWORD, TAG, Aead


def _hash(*parts: bytes, size: int = 32) -> bytes:
    return blake2s(b"".join(parts), digest_size=size).digest()


class FakeAead:
    """The plaintext and a checksum: noticed is what was damaged or sealed for another."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, counter: int, plaintext: bytes, associated: bytes) -> bytes:
        return plaintext + self._tag(counter, plaintext, associated)

    def open(self, counter: int, sealed: bytes, associated: bytes) -> bytes | None:
        plaintext, tag = sealed[:-TAG], sealed[-TAG:]
        return plaintext if tag == self._tag(counter, plaintext, associated) else None

    def _tag(self, counter: int, plaintext: bytes, associated: bytes) -> bytes:
        lengths = len(associated).to_bytes(4, "big") + counter.to_bytes(8, "big")
        return _hash(self._key, lengths, associated, plaintext, size=TAG)


class FakeCrypto:
    """`plugins.weave.crypto.Crypto`."""

    def exchange_public(self, private: bytes) -> bytes:
        return _hash(b"exchange", private)

    def shared(self, private: bytes, public: bytes) -> bytes | None:
        if public == bytes(KEY):
            return None
        mine = self.exchange_public(private)
        return _hash(b"shared", min(mine, public), max(mine, public))

    def signing_public(self, private: bytes) -> bytes:
        return _hash(b"signing", private)

    def sign(self, private: bytes, message: bytes) -> bytes:
        return self._signature(self.signing_public(private), message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return len(public) == KEY and signature == self._signature(public, message)

    def aead(self, key: bytes) -> Aead:
        return FakeAead(key)

    def stretch(self, password: str) -> bytes:
        return _hash(b"password", password.encode()) if password else NO_PASSWORD

    def _signature(self, public: bytes, message: bytes) -> bytes:
        half = _hash(public, message)
        return half + half
