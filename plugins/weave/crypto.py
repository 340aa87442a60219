"""What the overlay asks of cryptography, so that large simulations can do without.

`plugins.weave.primitives.Primitives` is the real one.  Keys are bytes, private ones too: states are
values that can be stored and compared.  Hashes are BLAKE2s (RFC 7693) from the standard library in
either case, and are functions here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Protocol

KEY = 32  # bytes of every key, public, private and secret
SIGNATURE = 64  # bytes, RFC 8032
TAG = 16  # bytes that sealing adds, RFC 8439 and SP 800-38D
MAC = 16  # bytes of a keyed BLAKE2s
NO_PASSWORD = bytes(KEY)  # the pre-shared key where none was agreed


class Aead(Protocol):
    """Authenticated encryption under one key, ChaCha20-Poly1305 (RFC 8439).

    The nonce is 4 zero bytes and the counter in 8, little-endian, as Noise has it (section 12.3).
    No counter may be used twice under one key: the caller sees to it.
    """

    def seal(self, counter: int, plaintext: bytes, associated: bytes) -> bytes:
        """`TAG` bytes longer than the plaintext."""
        ...

    def open(self, counter: int, sealed: bytes, associated: bytes) -> bytes | None:
        """None: not sealed with this key, counter and associated data."""
        ...


class Crypto(Protocol):
    """X25519 (RFC 7748), Ed25519 (RFC 8032), `Aead` and scrypt (RFC 7914)."""

    def exchange_public(self, private: bytes) -> bytes:
        """The public X25519 key of any 32 bytes."""
        ...

    def shared(self, private: bytes, public: bytes) -> bytes | None:
        """X25519; None if `public` has a low order, so that the result would be known to anyone."""
        ...

    def signing_public(self, private: bytes) -> bytes:
        """The public Ed25519 key of any 32 bytes."""
        ...

    def sign(self, private: bytes, message: bytes) -> bytes:
        """`SIGNATURE` bytes; the same for the same message."""
        ...

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """False as well for what is no key or no signature at all."""
        ...

    def aead(self, key: bytes) -> Aead: ...

    def stretch(self, password: str) -> bytes:
        """The pre-shared key of a password; slow (a third of a second) on purpose.

        "" stands for none: `NO_PASSWORD`.
        """
        ...


Random = Callable[[int], bytes]  # unpredictable bytes of the length asked for


def digest(size: int, *parts: bytes, key: bytes = b"") -> bytes:
    """BLAKE2s of the parts, one after the other; with a key (32 bytes at most) a MAC."""
    hashed = hashlib.blake2s(digest_size=size, key=key)
    for part in parts:
        hashed.update(part)
    return hashed.digest()


def mac(key: bytes, *parts: bytes) -> bytes:
    """`MAC` bytes."""
    return digest(MAC, *parts, key=key)


def derive(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose from one that serves several."""
    return digest(KEY, purpose, key=key)


def same(one: bytes, other: bytes) -> bool:
    """Compared in constant time, for what a stranger may guess at."""
    return hmac.compare_digest(one, other)
