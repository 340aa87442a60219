"""The keys that peers sign with, as their HOST records say: a peer's id is a hash of them."""

from __future__ import annotations

from plugins.weave.crypto import Crypto
from plugins.weave.identity import PeerId
from plugins.weave.record import CONTEXT, Kind, Record
from plugins.weave.statements import read_host


class Keyring:
    def __init__(self, crypto: Crypto) -> None:
        self._crypto = crypto
        self._keys: dict[PeerId, bytes] = {}

    def add(self, peer: PeerId, key: bytes) -> None:
        self._keys[peer] = key

    def take(self, record: Record) -> bool:
        """The key in a HOST record that is known to be right; False: there is none."""
        host = read_host(record.value)
        if host is None or record.key or host.keys.peer != record.origin:
            return False
        self._keys[record.origin] = host.signing
        return True

    def drop(self, origin: PeerId) -> None:
        self._keys.pop(origin, None)

    def signed(self, record: Record) -> bool:
        """Whether the origin has signed it; False as well while its HOST record is not here."""
        if record.kind == Kind.HOST and record.origin not in self._keys:
            return self.take(record) and self._verified(record)
        if record.kind == Kind.HOST:
            host = read_host(record.value)
            if host is None or record.key or host.keys.peer != record.origin:
                return False
        return self._verified(record)

    def _verified(self, record: Record) -> bool:
        key = self._keys.get(record.origin)
        text = CONTEXT + record.body
        return key is not None and self._crypto.verify(key, text, record.signature)
