"""AES-256-GCM (NIST SP 800-38D) into buffers that are there already, and the replay window.

The nonce is 4 zero bytes and the datagram's counter, big-endian: a key is of one direction of one
session and of one worker, whose counter never goes back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netkit.overlay.sleeve.framing import TAG

NONCE = struct.Struct("!4xQ")
WORDS = 128  # of 64 counters each
WINDOW = (WORDS - 1) * 64  # counters behind the highest that are still taken, each once
Buffer = bytes | bytearray | memoryview


class Seal:
    """One direction's key, and its counter; several threads may use it."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key) if key else None
        self.sealed = bool(key)
        self.counters: Iterator[int] = count(1)

    def into(self, counter: int, associated: Buffer, plain: Buffer, out: memoryview) -> int:
        """Seal `plain` into `out`; bytes written.  Without a key it is copied."""
        if self._aead is None:
            out[: len(plain)] = plain
            return len(plain)
        size = len(plain) + TAG
        self._aead.encrypt_into(NONCE.pack(counter), plain, associated, out[:size])
        return size


class Opening:
    """The other direction's: the key, and which counters have been seen.

    The window is a ring of words, as in RFC 6479: it moves by whole words, so a step costs nothing.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key) if key else None
        self._highest = 0
        self._words = [0] * WORDS

    @property
    def sealed(self) -> bool:
        return self._aead is not None

    def into(self, counter: int, associated: Buffer, sealed: Buffer, out: memoryview) -> int:
        """Open into `out`; bytes written, or -1: a forgery, a replay, or too old."""
        assert self._aead is not None
        size = len(sealed) - TAG
        if size < 0 or self._old(counter):
            return -1
        try:
            self._aead.decrypt_into(NONCE.pack(counter), sealed, associated, out[:size])
        except InvalidTag:
            return -1
        self._note(counter)
        return size

    def _old(self, counter: int) -> bool:
        if counter > self._highest:
            return False
        if counter + WINDOW <= self._highest:
            return True
        return bool(self._words[(counter >> 6) % WORDS] >> (counter & 63) & 1)

    def _note(self, counter: int) -> None:
        """After the tag: what was forged moves no window."""
        word, highest = counter >> 6, self._highest >> 6
        if counter > self._highest:
            for passed in range(max(highest + 1, word - WORDS + 1), word + 1):
                self._words[passed % WORDS] = 0
            self._highest = counter
        self._words[word % WORDS] |= 1 << (counter & 63)
