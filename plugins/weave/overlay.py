"""A host's whole part in an overlay, sans-IO: what the overlay's process is a shell around.

    overlay = Overlay(identity=..., crypto=..., random=..., settings=..., boot=..., now=now)
    step = overlay.start(rows, now)     # table -> key -> value: what all steps have persisted
    step = overlay.prime(now)           # launched without peers
    step = overlay.connect(Address("192.0.2.7", 6783), now)
    step = overlay.receive(datagram, source, now)
    step = overlay.tick(now)            # at overlay.deadline() at the latest

Of every step first all of `persist` is written, in one transaction, then datagrams are sent (those
that are `whole` with IPv4's DF), then events are told, in order; then comes the next call.  Events:

    planes.PeerPath, PeerGone, Accept, AcceptNoMore, ProbeVxlan, TableChanged,
    NamesChanged, events.RelayedData        for those who carry data, and for DNS
    local.Granted, requests.Refused         the answer to `allocate` and `claim`, by ticket
    local.AddressLost                       an endpoint's address is another host's by now
    holder.Fenced                           whether endpoints of this host have to be cut off
    removal.Removed                         the answer to `remove_peer` and `leave`
    membership.WeAreRemoved                 this host has to be reset
    events.Cloned, taken.InUse              a copy of this host's state is in use elsewhere
    others                                  of use for logs only

`now`: seconds of a clock that goes on while the machine sleeps (CLOCK_BOOTTIME); it never goes back
but with another `boot`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_interface
from typing import Final

from netkit.errors import Conflict, InvalidSpec, NoRoom, NotFound, StoreError
from plugins.weave import local, overview, prefixes
from plugins.weave.carriers import Carriers
from plugins.weave.core import TABLES as CORE_TABLES
from plugins.weave.crypto import Crypto, Random
from plugins.weave.identity import PEER_ID, Identity, PeerId
from plugins.weave.local import Endpoint, Granted, Name, Network, Value
from plugins.weave.networks import Networks
from plugins.weave.node import Node
from plugins.weave.path import FAST, TAKES_VXLAN, Paths
from plugins.weave.planes import Table
from plugins.weave.prefixes import Prefix
from plugins.weave.reactions import Reactions
from plugins.weave.record import Kind
from plugins.weave.removal import Removed
from plugins.weave.requests import Refused, Why
from plugins.weave.settings import Settings
from plugins.weave.space import Space
from plugins.weave.statements import encode
from plugins.weave.status import Status
from plugins.weave.step import NOTHING, Address, Change, Step
from plugins.weave.wire import WireError

TARGETS: Final = "weave_target"
"""Rows: "HOST PORT" -> the name that a user gave for it."""
TABLES: Final = (*CORE_TABLES, TARGETS)
GRAIN: Final = 0.05
"""Seconds between two looks at all paths at least."""
DAMAGED: Final = (
    "what this host keeps of the overlay is damaged ({}): `netkit weave reset` makes it a new peer"
)


class Overlay:
    """One thread uses it.  What a command refuses it refuses with an error of `netkit.errors`, and
    nothing has changed then."""

    def __init__(
        self, *, identity: Identity, crypto: Crypto, random: Random, settings: Settings,
        boot: bytes, now: float,
    ) -> None:  # fmt: skip
        """`identity`: of `identity.load` or `identity.make`.  `boot`: another one whenever `now`
        may have begun anew, such as /proc/sys/kernel/random/boot_id.  It takes a third of a second
        where there is a password.  InvalidSpec: `settings`."""
        self.me = identity.peer
        self.settings = settings
        self.node = Node(
            identity=identity, crypto=crypto, random=random, settings=settings.ourselves(()),
            psk=crypto.stretch(settings.password), trust=settings.trust(), boot=boot, now=now,
            features=0 if settings.no_fastdp else TAKES_VXLAN,
        )  # fmt: skip
        self.networks = Networks(self.node.mesh, settings.prefix())
        paths = Paths(random, settings.mtu, settings.no_fastdp)
        self.carriers = Carriers(paths, self.node.sessions.where, self._features, self._hop)
        self.reactions = Reactions(self.node, self.carriers, self.networks)
        self._targets: dict[Address, str] = {}
        self._ticket = 0
        self._looked = float("-inf")

    # -- life ------------------------------------------------------------------------------------

    def start(self, rows: Mapping[str, Mapping[bytes, bytes]], now: float) -> Step:
        """Once, before all else.  StoreError: rows are damaged, so that this host has to become a
        new peer."""
        try:
            step = self.node.start(rows, now)
        except WireError as error:
            raise StoreError(DAMAGED.format(error)) from None
        self.networks.read()
        for key, name in sorted(rows.get(TARGETS, {}).items()):
            where = _target(key)
            if where is not None:
                self._targets[where] = name.decode(errors="replace")
                step += self.node.connect(where, now)
        return self.reactions.settle(step, now)

    def receive(self, datagram: bytes, source: Address, now: float) -> Step:
        """Any UDP payload of the port but data (type 6), by anybody; it never raises."""
        return self.reactions.settle(self.node.receive(datagram, source, now), now)

    def tick(self, now: float) -> Step:
        step = self.node.tick(now)
        self._looked = now
        probes = self.carriers.tick(now)
        return self.reactions.settle(step + self.reactions.send(probes, now), now)

    def deadline(self) -> float:
        """When `tick` has something to do; infinity: never.  Ask anew after every call."""
        return min(self.node.deadline(), max(self.carriers.deadline(), self._looked + GRAIN))

    # -- peers -----------------------------------------------------------------------------------

    def connect(self, where: Address, now: float, name: str = "") -> Step:
        """Add a target, which is tried for ever; `name`: what the user wrote for it."""
        if not _numeric(where):
            raise InvalidSpec(f"no address and port of a peer: {where}")
        if len(self._targets) >= MOST_TARGETS and where not in self._targets:
            raise NoRoom(f"there are {MOST_TARGETS} targets already")
        self._targets[where] = name[:253]
        step = Step(persist=(Change(TARGETS, _row(where), name[:253].encode()),))
        return self.reactions.settle(step + self.node.connect(where, now), now)

    def forget(self, where: Address, now: float) -> Step:
        """Drop a target; a session with it stays as long as it is of use.  NotFound."""
        if self._targets.pop(where, None) is None:
            raise NotFound(f"{where} is no target of this host")
        step = Step(persist=(Change(TARGETS, _row(where), None),))
        return self.reactions.settle(step + self.node.forget(where, now), now)

    def targets(self) -> dict[Address, str]:
        """With the names that were given for them."""
        return dict(self._targets)

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
        on.  When `removal.Removed` of this peer comes (at once if there is nobody to give them to),
        the shell ends the process and deletes all rows and the identity."""
        left, step = self.node.do(lambda space: space.leave(now, until), now)
        if not left:
            step += Step(events=(Removed(self.me, False, 0, "nobody to give addresses back to"),))
        return self.reactions.settle(step, now)

    # -- what netkitd says of this host ----------------------------------------------------------

    def put(self, value: Value, now: float) -> Step:
        """Add or replace a network, an endpoint (`expose`: the host's own) or a name (`dns-add`).

        InvalidSpec, NoRoom.  Conflict: an address of an endpoint, outside of what the overlay gives
        out, is a live one's of another host.
        """
        kind, key, written = self._record(value)
        if isinstance(value, Endpoint):
            for address in value.addresses:
                self._free(value.network, address)
        try:
            return self.reactions.settle(self.node.put(kind, key, written, now), now)
        except WireError as error:
            raise NoRoom(f"others cannot be told of {type(value).__name__}: {error}") from None

    def delete(self, kind: type[Value], key: bytes, now: float) -> Step:
        """What has that id, if there is something.  Addresses stay until `release`."""
        return self.reactions.settle(self.node.delete(local.KINDS[kind], key, now), now)

    def resync(
        self, now: float, *, networks: Iterable[Network], endpoints: Iterable[Endpoint],
        names: Iterable[Name],
    ) -> Step:  # fmt: skip
        """This is all there is, exactly.  InvalidSpec, NoRoom."""
        written: dict[Kind, dict[bytes, bytes]] = {
            Kind.NETWORK: {}, Kind.ENDPOINT: {}, Kind.NAME: {},
        }  # fmt: skip
        values: list[Value] = [*networks, *endpoints, *names]
        for value in values:
            kind, key, content = self._record(value)
            written[kind][key] = content
        if sum(len(records) for records in written.values()) > MOST_LOCAL:
            raise NoRoom(f"a host tells others of {MOST_LOCAL} networks, endpoints and names")
        step = NOTHING
        try:
            for each, records in written.items():
                step += self.node.resync(each, records, now)
        except WireError as error:
            raise NoRoom(f"others cannot be told of all that is on this host: {error}") from None
        return self.reactions.settle(step, now)

    # -- addresses -------------------------------------------------------------------------------

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
        `network`: needed for a subnet outside of the range.  The answer is an event with the
        ticket, in this step or a later one, until `until`.  InvalidSpec.
        """
        wanted = None if subnet is None else _subnet(subnet)
        place = None if wanted is None else self.networks.place(network, wanted)
        return self._ask(
            lambda space: space.allocate(ident, now, until, place=place, subnet=wanted), now
        )

    def claim(
        self, ident: bytes, address: str, now: float, until: float, *,
        subnet: str | None = None, network: bytes = b"",
    ) -> tuple[int, Step]:  # fmt: skip
        """A certain address (`weave run ip:10.32.5.7/24`), as `allocate`.

        Outside of the range and of the network's subnets nothing is allocated: it is granted unless
        a live endpoint of that network has it.
        """
        single = prefixes.of(_packed(address))
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
        number = None if address is None else prefixes.of(_packed(address)).first
        _, step = self.node.do(lambda space: space.release(ident, now, number), now)
        return self.reactions.settle(step, now)

    # -- names -----------------------------------------------------------------------------------

    def lookup(self, name: str, network: bytes | None = None) -> list[str]:
        """Addresses, IPv4 and IPv6, another one first each time; [] also for what is no name."""
        return self.node.names.lookup(name, network)

    def reverse(self, address: str) -> list[str]:
        """Full names of an address."""
        try:
            return self.node.names.reverse(address)
        except ValueError:
            return []

    # -- data ------------------------------------------------------------------------------------

    def table(self, network: bytes) -> Table | None:
        """Where frames of a network of this host go; None: it has no such network."""
        here = self.networks.here.get(network)
        return None if here is None else overview.table(self, here)

    def heard(self, index: int, source: Address, now: float) -> Step:
        """A worker opened data under this index that came from there: the first at every new
        source, and now and then."""
        return self._session(self.node.sessions.heard(index, source, now), now)

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

    # -- looking ---------------------------------------------------------------------------------

    def status(self, now: float) -> Status:
        """All that `weave status`, `status peers | connections | targets | dns | ipam` and `report`
        show."""
        return overview.status(self, now)

    def peer_name(self, peer: PeerId) -> str:
        """Its nickname, or the beginning of its id."""
        return self.node.core.name(peer)

    # -- parts -----------------------------------------------------------------------------------

    def _session(self, step: Step, now: float) -> Step:
        return self.reactions.settle(self.node.after(step, now), now)

    def _record(self, value: Value) -> tuple[Kind, bytes, bytes]:
        kind, key, written = local.record_of(value)
        if isinstance(value, Endpoint):
            written = encode(self.reactions.shown(value.statement()))
        return kind, key, written

    def _ask(self, call: Callable[[Space], int], now: float) -> tuple[int, Step]:
        try:
            ticket, step = self.node.do(call, now)
        except ValueError as error:
            raise InvalidSpec(str(error)) from None
        return ticket, self.reactions.settle(step, now)

    def _grant(
        self, ident: bytes, address: str, length: int, network: bytes, now: float
    ) -> tuple[int, Step]:
        """An address that nobody gives out: tickets of these are negative."""
        self._ticket -= 1
        try:
            self._free(network, address)
        except Conflict as error:
            refused = Refused(self._ticket, ident, Why.TAKEN, str(error))
            return self._ticket, self.reactions.settle(Step(events=(refused,)), now)
        granted = Granted(self._ticket, ident, address, length)
        return self._ticket, self.reactions.settle(Step(events=(granted,)), now)

    def _free(self, network: bytes, address: str) -> None:
        """Conflict: another host's live endpoint has an address that nobody gives out."""
        packed = _packed(address)
        if self.networks.given_out(self.node.space, network, prefixes.of(packed)):
            return
        owner = self.node.forwarding.claimed(network, packed)
        if owner is not None and owner[0] != self.me:
            raise Conflict(f"{address} is in use at {self.peer_name(owner[0])}")

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

    def _features(self, peer: PeerId) -> int:
        return self.node.sessions.features(peer)

    def _hop(self, peer: PeerId) -> str:
        hop = self.node.mesh.routes.next_hop(peer)
        return "nobody" if hop is None else self.peer_name(hop)


MOST_TARGETS: Final = 256
MOST_LOCAL: Final = 3500
"""Endpoints, networks and names of one host: records of one peer are 4096 in all."""


def _remove(peer: PeerId, now: float, until: float, force: bool) -> Callable[[Space], None]:
    return lambda space: space.remove_peer(peer, now, until, force=force)


def _numeric(where: Address) -> bool:
    try:
        ip_address(where.host)
    except ValueError:
        return False
    return 0 < where.port < 2**16


def _row(where: Address) -> bytes:
    return f"{where.host} {where.port}".encode()


def _target(row: bytes) -> Address | None:
    host, _, port = row.decode(errors="replace").partition(" ")
    where = Address(host, int(port) if port.isascii() and port.isdigit() else 0)
    return where if _numeric(where) else None


def _packed(address: str) -> bytes:
    try:
        return ip_address(address).packed
    except ValueError as error:
        raise InvalidSpec(str(error)) from None


def _subnet(written: str) -> Prefix:
    """ "10.32.5.0/24", or an address in it with its length."""
    try:
        return prefixes.parse(str(ip_interface(written).network))
    except ValueError as error:
        raise InvalidSpec(str(error)) from None
