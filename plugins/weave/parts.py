"""The parts of a host's part in an overlay, put together."""

from __future__ import annotations

from ipaddress import ip_address

from netkit.errors import Conflict, InvalidSpec
from plugins.weave import prefixes
from plugins.weave.carriers import Carriers
from plugins.weave.crypto import Crypto, Random
from plugins.weave.identity import Identity, PeerId
from plugins.weave.networks import Networks
from plugins.weave.node import Node
from plugins.weave.path import TAKES_VXLAN, Paths
from plugins.weave.reactions import Reactions
from plugins.weave.settings import Settings
from plugins.weave.step import Step


class Parts:
    """What commands have in common (`overlay.Overlay`)."""

    def __init__(
        self, *, identity: Identity, crypto: Crypto, random: Random, settings: Settings,
        boot: bytes, now: float,
    ) -> None:  # fmt: skip
        """`identity`: of `identity.load` or `identity.make`.  `boot`: another one whenever `now`
        may have begun anew, such as /proc/sys/kernel/random/boot_id.  It takes a third of a second
        where there is a password.  InvalidSpec: `settings`."""
        self.me = identity.peer
        self.settings = settings
        trust = settings.trust()
        self.node = Node(
            identity=identity, crypto=crypto, random=random, settings=settings.ourselves(()),
            psk=crypto.stretch(settings.password), trust=trust, boot=boot, now=now,
            features=0 if settings.no_fastdp else TAKES_VXLAN,
        )  # fmt: skip
        self.networks = Networks(self.node.mesh, settings.prefix())
        paths = Paths(random, settings.mtu, settings.no_fastdp)
        self.carriers = Carriers(
            paths, self.node.sessions.where, self._features, self._hop,
            lambda where: not trust.password or trust.needs_sealing(where),
        )  # fmt: skip
        self.reactions = Reactions(self.node, self.carriers, self.networks)

    def peer_name(self, peer: PeerId) -> str:
        """Its nickname, or the beginning of its id."""
        return self.node.core.name(peer)

    def _session(self, step: Step, now: float) -> Step:
        return self.reactions.settle(self.node.after(step, now), now)

    def _free(self, network: bytes, address: str) -> None:
        """Conflict: another host's live endpoint has an address outside all ranges."""
        packed = packed_of(address)
        if self.networks.given_out(self.node.space, network, prefixes.of(packed)):
            return
        owner = self.node.forwarding.claimed(network, packed)
        if owner is not None and owner[0] != self.me:
            raise Conflict(f"{address} is in use at {self.peer_name(owner[0])}")

    def _features(self, peer: PeerId) -> int:
        return self.node.sessions.features(peer)

    def _hop(self, peer: PeerId) -> str:
        hop = self.node.mesh.routes.next_hop(peer)
        return "no peer" if hop is None else self.peer_name(hop)


def packed_of(address: str) -> bytes:
    try:
        return ip_address(address).packed
    except ValueError as error:
        raise InvalidSpec(str(error)) from None
