"""`Crypto` on OpenSSL, by way of the `cryptography` package."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from plugins.weave.crypto import KEY, NO_PASSWORD

# The salt cannot be secret or drawn: two hosts that know nothing but the password must get one key.
# It keeps tables made for other programs from being of use.
SALT = b"netkit weave: pre-shared key, version 1"
# 32 MiB and some 0.3 s: one of the settings that OWASP's sheet on storing passwords holds to be
# equal.
COST = {"n": 2**15, "r": 8, "p": 3}
MEMORY = 48 << 20  # bytes that OpenSSL may take: 128 * n * r, and room for p


class ChaCha:
    """`Aead` under one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, counter: int, plaintext: bytes, associated: bytes) -> bytes:
        return self._cipher.encrypt(_nonce(counter), plaintext, associated)

    def open(self, counter: int, sealed: bytes, associated: bytes) -> bytes | None:
        try:
            return self._cipher.decrypt(_nonce(counter), sealed, associated)
        except InvalidTag:
            return None


class Primitives:
    """The real `Crypto`."""

    def exchange_public(self, private: bytes) -> bytes:
        return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()

    def shared(self, private: bytes, public: bytes) -> bytes | None:
        try:
            return X25519PrivateKey.from_private_bytes(private).exchange(
                X25519PublicKey.from_public_bytes(public)
            )
        except ValueError:  # OpenSSL refuses a result of zeros, RFC 7748 section 6.1
            return None

    def signing_public(self, private: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()

    def sign(self, private: bytes, message: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(private).sign(message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def aead(self, key: bytes) -> ChaCha:
        return ChaCha(key)

    def stretch(self, password: str) -> bytes:
        if not password:
            return NO_PASSWORD
        return hashlib.scrypt(password.encode(), salt=SALT, maxmem=MEMORY, dklen=KEY, **COST)


def _nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")
