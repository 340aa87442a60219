"""Commands about addresses: getting and giving back, and what peers that leave had."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface

from netkit.errors import Conflict, InvalidSpec, NotFound
from plugins.weave import prefixes
from plugins.weave.identity import PeerId
from plugins.weave.local import Granted
from plugins.weave.parts import Parts, packed_of
from plugins.weave.prefixes import Prefix
from plugins.weave.removal import Removed
from plugins.weave.requests import Refused, Why
from plugins.weave.space import Space
from plugins.weave.step import Step


class Allocation(Parts):
    _ticket = 0

    def prime(self, now: float) -> Step:
        """Own the whole range (`settings`), unless one is followed already: `launch` without peers,
        or `prime`."""
        return self.reactions.settle(self.node.found(self.settings.prefix(), now), now)

    def allocate(
        self, ident: bytes, now: float, until: float, *, subnet: str | None = None,
        network: bytes = b"",
    ) -> tuple[int, Step]:  # fmt: skip
        """Some address of a subnet, or of the range: (ticket, step).

        `ident`: 1 to 128 bytes that say whose it is; who has one in the subnet gets the same again.
        `network`: needed for a subnet outside of the range.  What is in the subnet of another
        network of this host comes last.  The answer is an event with the
        ticket, in this step or a later one, until `until`.  InvalidSpec.
        """
        wanted = None if subnet is None else _subnet(subnet)
        place = None if wanted is None else self.networks.place(network, wanted)
        avoid = self.networks.nested(network, wanted)
        return self._ask(
            lambda space: space.allocate(
                ident, now, until, place=place, subnet=wanted, avoid=avoid
            ), now,
        )  # fmt: skip

    def claim(
        self, ident: bytes, address: str, now: float, until: float, *,
        subnet: str | None = None, network: bytes = b"",
    ) -> tuple[int, Step]:  # fmt: skip
        """A certain address (`weave run ip:10.32.5.7/24`), as `allocate`.

        Outside of the range and of the network's subnets nothing is allocated: it is granted unless
        a live endpoint of that network has it.
        """
        single = prefixes.of(packed_of(address))
        wanted = single if subnet is None else _subnet(subnet)
        if not self.networks.given_out(self.node.space, network, single):
            return self._grant(ident, address, wanted.length, network, now)
        place = self.networks.place(network, single)
        within = wanted if subnet is not None else None
        return self._ask(
            lambda space: space.claim(
                ident, single.first, now, until, place=place, subnet=within
            ), now,
        )  # fmt: skip

    def release(self, ident: bytes, now: float, address: str | None = None) -> Step:
        """What `ident` has, or waits for; with an address only that."""
        number = None if address is None else prefixes.of(packed_of(address)).first
        _, step = self.node.do(lambda space: space.release(ident, now, number), now)
        return self.reactions.settle(step, now)

    def held(self) -> list[tuple[bytes, str]]:
        """(ident, address) of all that was given to somebody on this host; no resting ones."""
        return [
            (use.ident, prefixes.text(pool.whole.family, address))
            for pool in self.node.space.holdings.pools.values()
            for address, use in sorted(pool.uses.items())
            if use.ident
        ]

    # -- peers that leave ------------------------------------------------------------------------

    def remove_peer(self, who: str, now: float, until: float, *, force: bool = False) -> Step:
        """`rmpeer`: by nickname, id, or the beginning of an id.  The answer is `removal.Removed`,
        at `until` at the latest.  NotFound; Conflict: several are called so, or it is ourselves."""
        peer = self._find(who)
        if peer == self.me:
            raise Conflict(f"{who} is this host: `netkit weave reset` takes it out of the overlay")
        if self.node.space.council is None:
            raise Conflict("this host has no part in any address range: it has met no peer yet")
        call = _remove(peer, now, until, force)
        return self.reactions.settle(self.node.do(call, now)[1], now)

    def leave(self, now: float, until: float) -> Step:
        """`reset`: give addresses back to others and say goodbye.  Nothing is in use here from now
        on.  When `removal.Removed` of this peer comes (at once if there is no peer to give them
        to), the shell ends the process and deletes all rows and the identity."""
        left, step = self.node.do(lambda space: space.leave(now, until), now)
        if not left:
            step += Step(events=(Removed(self.me, False, 0, "no peer to give addresses back to"),))
        return self.reactions.settle(step, now)

    # -- one call --------------------------------------------------------------------------------

    def _ask(self, call: Callable[[Space], int], now: float) -> tuple[int, Step]:
        try:
            ticket, step = self.node.do(call, now)
        except ValueError as error:
            raise InvalidSpec(str(error)) from None
        return ticket, self.reactions.settle(step, now)

    def _grant(
        self, ident: bytes, address: str, length: int, network: bytes, now: float
    ) -> tuple[int, Step]:
        """An address outside all ranges: tickets of these are negative."""
        self._ticket -= 1
        try:
            self._free(network, address)
        except Conflict as error:
            refused = Refused(self._ticket, ident, Why.TAKEN, str(error))
            return self._ticket, self.reactions.settle(Step(events=(refused,)), now)
        granted = Granted(self._ticket, ident, address, length)
        return self._ticket, self.reactions.settle(Step(events=(granted,)), now)

    def _find(self, who: str) -> PeerId:
        hosts = self.node.mesh.membership.hosts
        named = [peer for peer, host in hosts.items() if host.nickname == who]
        found = named or [peer for peer in hosts if peer.hex().startswith(who.lower())]
        if not found:
            raise NotFound(f"no peer is called {who!r}: `netkit weave status peers` shows all")
        if len(found) > 1:
            ids = ", ".join(sorted(peer.hex()[:12] for peer in found))
            raise Conflict(f"{len(found)} peers are called {who!r}: {ids}")
        return found[0]


def _remove(peer: PeerId, now: float, until: float, force: bool) -> Callable[[Space], None]:
    return lambda space: space.remove_peer(peer, now, until, force=force)


def _subnet(written: str) -> Prefix:
    """ "10.32.5.0/24", or an address in it with its length."""
    try:
        return prefixes.parse(str(ip_interface(written).network))
    except ValueError as error:
        raise InvalidSpec(str(error)) from None
