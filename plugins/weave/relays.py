"""Datagrams between peers that cannot reach each other, passed on by those between them.

They are sealed between the two ends: the peer that passes them on can drop them, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from plugins.weave import limits
from plugins.weave.identity import PeerId
from plugins.weave.messages import DATAGRAM, Message, Relay
from plugins.weave.routes import Routes


class Relays:
    """`arrived` is notified of datagrams for us, and of whom they come from as they say."""

    def __init__(
        self,
        routes: Routes,
        send: Callable[[PeerId, Message], None],
        arrived: Callable[[PeerId, bytes], None],
    ) -> None:
        self._routes, self._send, self._arrived = routes, send, arrived

    def send(self, target: PeerId, datagram: bytes) -> bool:
        """False: there is no way, or it is too large."""
        hop = self._routes.next_hop(target)
        if hop is None or len(datagram) > DATAGRAM:
            return False
        self._send(hop, Relay(self._routes.me, target, limits.HOPS, datagram))
        return True

    def received(self, peer: PeerId, message: Relay) -> None:
        """From a neighbour: for us, or to be passed on, but never back."""
        if message.target == self._routes.me:
            self._arrived(message.source, message.datagram)
            return
        hop = self._routes.next_hop(message.target)
        if hop is not None and hop != peer and message.hops > 1:
            left = message.hops - 1
            self._send(hop, Relay(message.source, message.target, left, message.datagram))
