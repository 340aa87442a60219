"""AES-256-GCM (NIST SP 800-38D) into buffers that are there already, and the replay window.

The nonce is 4 zero bytes and the datagram's counter, big-endian: a key is of one direction of one
session.  A counter never goes back while a process lives: `Keys` has what belongs to each key it
was ever given.  It is the caller's to give no key to two processes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from hashlib import blake2s
from itertools import count
from typing import Generic, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netkit.overlay.sleeve.framing import TAG

NONCE = struct.Struct("!4xQ")
WORDS = 128  # of 64 counters each
WINDOW = (WORDS - 1) * 64  # counters behind the highest that are still taken, each once
REMEMBERED = 65_536  # keys that are out of use; a session's lives for three minutes
FORMER = 256  # keys that are out of use and may come back
Buffer = bytes | bytearray | memoryview
Of = TypeVar("Of")


class Seal:
    """One direction's key, and its counter; several threads may use it."""

    def __init__(self, key: bytes) -> None:
        self.sealed = bool(key)
        self.tag = TAG if key else 0  # bytes that are added
        if key:
            self._encrypt = AESGCM(key).encrypt_into
        self.counters: Iterator[int] = count(1)

    def into(self, counter: int, associated: Buffer, plain: Buffer, out: memoryview) -> int:
        """Seal `plain` into `out`; bytes written.  Without a key it is copied."""
        size = len(plain) + self.tag
        if self.sealed:
            self._encrypt(NONCE.pack(counter), plain, associated, out[:size])
        else:
            out[:size] = plain
        return size


class Opening:
    """The other direction's: the key, and which counters have been seen.

    The window is a ring of words, as in RFC 6479: it moves by whole words, so a step costs nothing.
    """

    def __init__(self, key: bytes) -> None:
        self.sealed = bool(key)
        self.tag = TAG if key else 0
        if key:
            self._decrypt = AESGCM(key).decrypt_into
        self._highest = 0
        self._words = [0] * WORDS
        self._received = 0

    @property
    def highest(self) -> int:
        """Counter of the newest that came; 0: none has."""
        return self._highest

    @property
    def missing(self) -> int:
        """Payloads that did not come, so far."""
        return max(self._highest - self._received, 0)

    def into(self, counter: int, associated: Buffer, sealed: Buffer, out: memoryview) -> int:
        """Open into `out`; bytes written, or -1: a forgery, a replay, or too old.

        Without a key it is copied.
        """
        size = len(sealed) - self.tag
        if not self.sealed:
            out[:size] = sealed
            self.note(counter)
            return size
        if size < 0 or (counter <= self._highest and self.old(counter)):
            return -1
        try:
            self._decrypt(NONCE.pack(counter), sealed, associated, out[:size])
        except InvalidTag:
            return -1
        self.note(counter)
        return size

    def old(self, counter: int) -> bool:
        """Was it seen, or is it older than the window?  Nothing is where nothing is sealed."""
        if counter > self._highest or not self.sealed:
            return False
        if counter + WINDOW <= self._highest:
            return True
        return bool(self._words[(counter >> 6) % WORDS] >> (counter & 63) & 1)

    def note(self, counter: int) -> None:
        """It came.  After the tag: what was forged moves no window."""
        if counter == self._highest + 1 and counter & 63 and self._received:
            self._highest = counter  # the next one, and in the same word
            self._words[(counter >> 6) % WORDS] |= 1 << (counter & 63)
            self._received += 1
            return
        word, highest = counter >> 6, self._highest >> 6
        if counter > self._highest:
            if not self._received and not self.sealed:
                self._received = counter - 1  # the sender began before we did
            if word > highest:
                for passed in range(max(highest + 1, word - WORDS + 1), word + 1):
                    self._words[passed % WORDS] = 0
            self._highest = counter
        elif not self.sealed and counter + WINDOW <= self._highest:  # the sender began anew
            self._highest, self._received = counter, counter - 1
        self._words[word % WORDS] |= 1 << (counter & 63)
        self._received += 1


class Keys(Generic[Of]):
    """What was made of each key, once: a key that is given again goes on where it was."""

    def __init__(self, make: Callable[[bytes], Of]) -> None:
        self._make = make
        self._made: dict[bytes, Of] = {}
        self._former: dict[bytes, Of] = {}  # out of use, by age: two sessions may take turns
        self._gone: dict[bytes, None] = {}  # by age

    def of(self, key: bytes) -> Of:
        """ValueError: the key was in use, and what belonged to it is gone."""
        if not key:
            return self._make(key)
        if (name := _name(key)) in self._gone:
            raise ValueError("this key was in use before")
        if name not in self._made:
            former = self._former.pop(name, None)
            self._made[name] = self._make(key) if former is None else former
        return self._made[name]

    def forget(self, key: bytes) -> None:
        """It is out of use; what belongs to it is kept for a while, and then it is refused."""
        if key and (name := _name(key)) in self._made:
            self._former[name] = self._made.pop(name)
            if len(self._former) > FORMER:
                self._spend(next(iter(self._former)))

    def spend(self) -> None:
        """Refuse all there are from now on: the process that had their counters has ended."""
        for name in [*self._made, *self._former]:
            self._spend(name)

    def _spend(self, name: bytes) -> None:
        self._made.pop(name, None)
        self._former.pop(name, None)
        self._gone[name] = None
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]


def _name(key: bytes) -> bytes:
    return blake2s(key, digest_size=16).digest()
