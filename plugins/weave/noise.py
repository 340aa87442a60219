"""The Noise protocol framework, revision 34, as far as the overlay needs it.

Two patterns, `Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s` and `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s`:

    XXpsk3:  -> e                 IKpsk2:  <- s  (known beforehand)
             <- e, ee, s, es               -> e, es, s, ss
             -> s, se, psk                 <- e, ee, se, psk

Section numbers below are the specification's.  Why it is written here: docs/weave-internals.md.
"""

from __future__ import annotations

import copy
import hmac
from dataclasses import dataclass

from plugins.weave.crypto import KEY, TAG, Crypto, digest
from plugins.weave.wire import Pattern, WireError

HASH = 32  # bytes of BLAKE2s
_BEFORE = {Pattern.XX: (), Pattern.IK: ("s",)}  # the responder's, known to the initiator
_MESSAGES = {
    Pattern.XX: (("e",), ("e", "ee", "s", "es"), ("s", "se", "psk")),
    Pattern.IK: (("e", "es", "s", "ss"), ("e", "ee", "se", "psk")),
}
_NAMES = {
    Pattern.XX: b"Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s",
    Pattern.IK: b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s",
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """X25519."""

    private: bytes
    public: bytes


class _Symmetric:
    """Section 5.2, with the CipherState of 5.1 in it."""

    def __init__(self, crypto: Crypto, name: bytes) -> None:
        self._crypto = crypto
        self.hash = name.ljust(HASH, b"\0") if len(name) <= HASH else digest(HASH, name)
        self._chaining = self.hash
        self._key = b""  # none yet
        self._counter = 0

    def mix_key(self, material: bytes) -> None:
        self._chaining, key = _hkdf(self._chaining, material, 2)
        self._key, self._counter = key, 0

    def mix_hash(self, data: bytes) -> None:
        self.hash = digest(HASH, self.hash, data)

    def mix_key_and_hash(self, material: bytes) -> None:
        self._chaining, hashed, key = _hkdf(self._chaining, material, 3)
        self.mix_hash(hashed)
        self._key, self._counter = key, 0

    def encrypt(self, plaintext: bytes) -> bytes:
        sealed = plaintext
        if self._key:
            sealed = self._crypto.aead(self._key).seal(self._counter, plaintext, self.hash)
            self._counter += 1
        self.mix_hash(sealed)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        """WireError: it is not from who shares the state up to here."""
        plaintext: bytes | None = sealed
        if self._key:
            plaintext = self._crypto.aead(self._key).open(self._counter, sealed, self.hash)
            if plaintext is None:
                raise WireError("a handshake message of another key, password or peer")
            self._counter += 1
        self.mix_hash(sealed)
        return plaintext if plaintext is not None else b""

    def split(self) -> tuple[bytes, bytes]:
        one, two = _hkdf(self._chaining, b"", 2)
        return one, two


def _hkdf(chaining: bytes, material: bytes, outputs: int) -> list[bytes]:
    """Section 4.3, which is RFC 5869 without info."""
    secret = hmac.digest(chaining, material, "blake2s")
    found = [hmac.digest(secret, b"\x01", "blake2s")]
    while len(found) < outputs:
        found.append(hmac.digest(secret, found[-1] + bytes([len(found) + 1]), "blake2s"))
    return found


class NoiseHandshake:
    """Section 5.3: one side of one handshake.

    `ephemeral` is drawn for this handshake and used in no other; `remote` is the responder's static
    key, which an initiator of IK knows.  A message that cannot be read leaves the state as it was.
    """

    def __init__(
        self,
        crypto: Crypto,
        pattern: Pattern,
        *,
        initiator: bool,
        prologue: bytes,
        static: KeyPair,
        ephemeral: KeyPair,
        psk: bytes,
        remote: bytes = b"",
    ) -> None:
        self._crypto = crypto
        self._initiator = initiator
        self._static, self._ephemeral, self._psk = static, ephemeral, psk
        self._remote_static, self._remote_ephemeral = remote, b""
        self._messages = _MESSAGES[pattern]
        self._next = 0
        self._state = _Symmetric(crypto, _NAMES[pattern])
        self._state.mix_hash(prologue)
        if _BEFORE[pattern]:
            self._state.mix_hash(remote if initiator else static.public)

    @property
    def remote(self) -> bytes:
        """The other side's static key; empty until it is known."""
        return self._remote_static

    @property
    def hash(self) -> bytes:
        """Of the whole handshake so far; the same on both sides, section 11.2."""
        return self._state.hash

    @property
    def complete(self) -> bool:
        return self._next == len(self._messages)

    def room(self, size: int) -> int:
        """Bytes of payload in the next message if that is to have `size`."""
        tokens = self._messages[self._next]
        # With a pre-shared key "e" gives a first key, so all that follows it is sealed.
        keys = sum(KEY if token == "e" else KEY + TAG for token in tokens if token in ("e", "s"))
        return size - keys - TAG

    def write(self, payload: bytes) -> bytes:
        """The next message.  WireError: the other side's key is a point of low order."""
        after = self._copy()
        message = b""
        for token in after._messages[after._next]:
            if token == "e":
                public = after._ephemeral.public
                after._mix_ephemeral(public)
                message += public
            elif token == "s":
                message += after._state.encrypt(after._static.public)
            else:
                after._mix(token)
        message += after._state.encrypt(payload)
        self._become(after)
        return message

    def read(self, message: bytes) -> bytes:
        """The payload of the next message.  WireError: it is not one that the other side made."""
        after = self._copy()
        for token in after._messages[after._next]:
            if token == "e":
                after._remote_ephemeral, message = _cut(message, KEY)
                after._mix_ephemeral(after._remote_ephemeral)
            elif token == "s":
                sealed, message = _cut(message, KEY + TAG)
                after._remote_static = after._state.decrypt(sealed)
            else:
                after._mix(token)
        payload = after._state.decrypt(message)
        self._become(after)
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """The keys for (sending, receiving), once the handshake is complete."""
        first, second = self._state.split()
        return (first, second) if self._initiator else (second, first)

    def _mix_ephemeral(self, public: bytes) -> None:
        self._state.mix_hash(public)
        self._state.mix_key(public)  # section 9.2: so it is with a pre-shared key

    def _mix(self, token: str) -> None:
        if token == "psk":
            self._state.mix_key_and_hash(self._psk)
            return
        ours, theirs = (token[0], token[1]) if self._initiator else (token[1], token[0])
        private = (self._ephemeral if ours == "e" else self._static).private
        public = self._remote_ephemeral if theirs == "e" else self._remote_static
        shared = self._crypto.shared(private, public)
        if shared is None:
            raise WireError("a key of low order")
        self._state.mix_key(shared)

    def _copy(self) -> NoiseHandshake:
        after = copy.copy(self)
        after._state = copy.copy(self._state)
        return after

    def _become(self, after: NoiseHandshake) -> None:
        self.__dict__.update(after.__dict__)
        self._next += 1


def _cut(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise WireError("a handshake message that is cut short")
    return message[:size], message[size:]
