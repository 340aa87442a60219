"""Removed peers that come back: each is shown that it was removed, and nothing else.

A host that was cut off while `rmpeer` removed it knows nothing of that, and goes on giving out
what is another's by now.  It has a session for FAREWELL seconds, once its handshake has proved who
it is: there it is sent the newest entry of the ledger, may ask for those before it, which it checks
by itself, and gets the record of its removal.  All else that it says is dropped.
"""

from __future__ import annotations

from typing import Final

from plugins.weave.entries import Decided
from plugins.weave.identity import PeerId
from plugins.weave.mesh import Mesh
from plugins.weave.messages import Push
from plugins.weave.messages import encode as mesh_message
from plugins.weave.output import Output
from plugins.weave.record import Kind
from plugins.weave.space import Space
from plugins.weave.space_messages import CODEC, Pull
from plugins.weave.wire import WireError

MARK: Final = 0x10
"""Bit of the first byte that a mesh's message has, and a space's has not."""
FAREWELL: Final = 5.0
"""Seconds that such a session lasts."""


def marked(data: bytes) -> bytes:
    """A mesh's message as a space's, and the other way round."""
    return bytes((data[0] ^ MARK,)) + data[1:]


class Farewells:
    def __init__(self, mesh: Mesh, space: Space) -> None:
        self._mesh, self._space = mesh, space
        self._until: dict[PeerId, float] = {}
        self._out = Output()

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._until

    @property
    def busy(self) -> bool:
        """Whether `take` has something."""
        return bool(self._out.messages or self._out.hang)

    def take(self) -> Output:
        """What is to be done since the last call."""
        out, self._out = self._out, Output()
        return out

    def deadline(self) -> float:
        return min(self._until.values(), default=float("inf"))

    def begin(self, peer: PeerId, now: float) -> None:
        """A removed peer has a session."""
        self._until[peer] = now + FAREWELL
        newest = self._newest()
        if newest is not None:
            self._out.messages.append((peer, marked(CODEC.encode(newest))))

    def end(self, peer: PeerId) -> None:
        """It has none any more."""
        self._until.pop(peer, None)

    def received(self, peer: PeerId, data: bytes, now: float) -> None:
        """It may ask for entries of the ledger."""
        try:
            message = CODEC.decode(marked(data)) if data else None
            if isinstance(message, Pull):
                self._space.receive(peer, marked(data), now)
        except WireError:
            return

    def tick(self, now: float) -> None:
        """End those whose time is over, the record of the removal last: it counts with the ledger.
        """
        for peer in [peer for peer, until in self._until.items() if until <= now]:
            del self._until[peer]
            for record in self._mesh.records.iterate(Kind.REMOVED):
                if record.key == peer:
                    self._out.messages.append((peer, mesh_message(Push((record.blob,)))))
                    break
            self._out.hang.append(peer)

    def _newest(self) -> Decided | None:
        council = self._space.council
        return None if council is None else council.replica.newest()
