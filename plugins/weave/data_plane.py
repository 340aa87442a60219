"""Questions and reports of those who carry data."""

from __future__ import annotations

from plugins.weave import overview
from plugins.weave.identity import PEER_ID, PeerId
from plugins.weave.parts import Parts
from plugins.weave.path import FAST
from plugins.weave.planes import Table
from plugins.weave.step import NOTHING, Address, Step


class DataPlane(Parts):
    def table(self, network: bytes) -> Table | None:
        """Where frames of a network of this host go; None: it has no such network."""
        here = self.networks.here.get(network)
        return None if here is None else overview.table(self, here)

    def observed(self, index: int, source: Address, now: float) -> Step:
        """A worker opened sealed data under this index, newer than all before, that came from
        there: the first of it, and the first from another source."""
        return self._session(self.node.sessions.observed(index, source, now), now)

    def renew(self, number: int, now: float) -> Step:
        """The worker that counted what was sent to that peer, by `PeerPath.number`, or received,
        is gone: new keys at once."""
        peer = self.carriers.peer(number)
        return NOTHING if peer is None else self._session(self.node.sessions.renew(peer, now), now)

    def relay(self, number: int, datagram: bytes, now: float) -> Step:
        """A datagram of data (type 6) for a peer whose way is relay; lost where there is none."""
        peer = self.carriers.peer(number)
        if peer is not None:
            self.node.mesh.relays.send(peer, datagram)
        return self._session(NOTHING, now)

    def lossy(self, number: int, lossy: bool, now: float) -> Step:
        """Whether what that peer sends gets lost on its way to us, as the receiving worker counts
        it.  The peer is sent that each time, and has `PeerPath.whole` so; call it now and then as
        long as it is so, for that message may be lost as well."""
        peer = self.carriers.peer(number)
        if peer is None:
            return NOTHING
        return self._session(self.node.sessions.lossy(peer, lossy, now), now)

    def saw_vxlan(self, data: bytes, size: int, now: float) -> Step:
        """A probe came out of a VXLAN device (`planes.ProbeVxlan`); nonsense is ignored."""
        number = int.from_bytes(data[PEER_ID:], "big")
        if len(data) != PEER_ID + 4 or not number & FAST or not 0 < size < 2**16:
            return NOTHING
        peer = PeerId(data[:PEER_ID])
        return self._session(self.node.sessions.arrived(peer, number, size, now), now)

    def too_large(self, to: Address, size: int, limit: int, now: float) -> Step:
        """The kernel did not send a `whole` datagram of `size` bytes (EMSGSIZE); `limit`: bytes of
        UDP's payload that it would (IP_MTU less headers), 0: not known."""
        for path in self.carriers.paths.of.values():
            if path.where == to:
                path.too_large(size, limit, now)
                self.carriers.refresh(path.peer, now)
        return self.reactions.settle(NOTHING, now)

    def no_fastdp(self, why: str, now: float) -> Step:
        """Why the kernel's VXLAN cannot be used on this host any more; "": it can again."""
        self.carriers.paths.no_fastdp = self.settings.no_fastdp or why
        for peer in list(self.carriers.paths.of):
            self.carriers.refresh(peer, now)
        return self.reactions.settle(NOTHING, now)
