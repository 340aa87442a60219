"""A host's whole part in an overlay, sans-IO: what the overlay's process is a shell around.

    overlay = Overlay(identity=..., crypto=..., random=..., settings=..., boot=..., now=now)
    step = overlay.start(rows, now)     # table -> key -> value: what all steps have persisted
    step = overlay.prime(now)           # launched without peers
    step = overlay.connect(Address("192.0.2.7", 6783), now)
    step = overlay.receive(datagram, source, now)
    step = overlay.tick(now)            # at overlay.deadline() at the latest

Of every step first all of `persist` is written, in one transaction, then datagrams are sent (those
that are `whole` with IPv4's DF), then events are told, in order; then comes the next call.  Events:

    planes.PeerPath, PeerGone, Accept, AcceptNoMore, ProbeVxlan, RelayedData, TableChanged,
    NamesChanged                            for those who carry data, and for DNS
    requests.Allocated, Refused             the answer to `allocate` and `claim`, by ticket
    holdings.Lost                           an endpoint's address is another host's by now
    holder.Fenced                           whether endpoints of this host have to be cut off
    removal.Removed                         the answer to `remove_peer` and `leave`
    membership.WeAreRemoved                 this host has to be reset
    events.Cloned, taken.InUse              a copy of this host's state is in use elsewhere
    others                                  of use for logs only

`now`: seconds of a clock that goes on while the machine sleeps (CLOCK_BOOTTIME); it never goes back
but with another `boot`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from plugins.weave.core import TABLES as CORE_TABLES
from plugins.weave.crypto import Crypto, Random
from plugins.weave.identity import Identity, PeerId
from plugins.weave.local import Endpoint, Name, Network, Value
from plugins.weave.planes import Table
from plugins.weave.settings import Settings
from plugins.weave.status import Status
from plugins.weave.step import Address, Step

TARGETS: Final = "weave_target"
"""Rows: "HOST:PORT" -> the name that a user gave for it."""
TABLES: Final = (*CORE_TABLES, TARGETS)


class Overlay:
    """One thread uses it.  What a command refuses it refuses with an error of `netkit.errors`, and
    nothing has changed then."""

    def __init__(
        self, *, identity: Identity, crypto: Crypto, random: Random, settings: Settings,
        boot: bytes, now: float,
    ) -> None:  # fmt: skip
        """`identity`: of `identity.load` or `identity.make`.  `boot`: another one whenever `now`
        may have begun anew, such as /proc/sys/kernel/random/boot_id.  It takes a third of a second
        where there is a password."""
        raise NotImplementedError

    # -- life ------------------------------------------------------------------------------------

    def start(self, rows: Mapping[str, Mapping[bytes, bytes]], now: float) -> Step:
        """Once, before all else.  StoreError: rows are damaged, so that this host has to become a
        new peer."""
        raise NotImplementedError

    def receive(self, datagram: bytes, source: Address, now: float) -> Step:
        """Any UDP payload of the port but data (type 6), by anybody; it never raises."""
        raise NotImplementedError

    def tick(self, now: float) -> Step:
        raise NotImplementedError

    def deadline(self) -> float:
        """When `tick` has something to do; infinity: never.  Ask anew after every call."""
        raise NotImplementedError

    # -- peers -----------------------------------------------------------------------------------

    def connect(self, where: Address, now: float, name: str = "") -> Step:
        """Add a target, which is tried for ever; `name`: what the user wrote for it."""
        raise NotImplementedError

    def forget(self, where: Address, now: float) -> Step:
        """Drop a target; a session with it stays as long as it is of use.  NotFound."""
        raise NotImplementedError

    def targets(self) -> dict[Address, str]:
        """With the names that were given for them."""
        raise NotImplementedError

    def remove_peer(self, who: str, now: float, until: float, *, force: bool = False) -> Step:
        """`rmpeer`: by nickname, id, or the beginning of an id.  The answer is `removal.Removed`,
        at `until` at the latest.  NotFound; Conflict: several are called so, or it is ourselves."""
        raise NotImplementedError

    def leave(self, now: float, until: float) -> Step:
        """`reset`: give addresses back to others and say goodbye.  Nothing is in use here from now
        on.  When `removal.Removed` of this peer comes (at once if there is nobody to give them to),
        the shell ends the process and deletes all rows and the identity."""
        raise NotImplementedError

    # -- what netkitd says of this host ----------------------------------------------------------

    def put(self, value: Value, now: float) -> Step:
        """Add or replace a network, an endpoint (`expose`: the host's own) or a name (`dns-add`).

        InvalidSpec, NoRoom.  Conflict: an address of an endpoint, outside of what the overlay gives
        out, is a live one's of another host.
        """
        raise NotImplementedError

    def delete(self, kind: type[Value], key: bytes, now: float) -> Step:
        """What has that id, if there is something.  Addresses stay until `release`."""
        raise NotImplementedError

    def resync(
        self, now: float, *, networks: Iterable[Network], endpoints: Iterable[Endpoint],
        names: Iterable[Name],
    ) -> Step:  # fmt: skip
        """This is all there is, exactly."""
        raise NotImplementedError

    # -- addresses -------------------------------------------------------------------------------

    def prime(self, now: float) -> Step:
        """Own the whole range (`settings`), unless one is followed already: `launch` without peers,
        or `prime`."""
        raise NotImplementedError

    def allocate(
        self, ident: bytes, now: float, until: float, *, subnet: str | None = None,
        network: bytes = b"",
    ) -> tuple[int, Step]:  # fmt: skip
        """Some address of a subnet, or of the range: (ticket, step).

        `ident`: 1 to 128 bytes that say whose it is; who has one in the subnet gets the same again.
        `network`: needed for a subnet outside of the range.  The answer is an event with the
        ticket, in this step or a later one, until `until`.  InvalidSpec.
        """
        raise NotImplementedError

    def claim(
        self, ident: bytes, address: str, now: float, until: float, *,
        subnet: str | None = None, network: bytes = b"",
    ) -> tuple[int, Step]:  # fmt: skip
        """A certain address (`weave run ip:10.32.5.7/24`), as `allocate`.

        Outside of the range and of the network's subnets nothing is allocated: it is granted unless
        a live endpoint of that network has it.
        """
        raise NotImplementedError

    def release(self, ident: bytes, now: float, address: str | None = None) -> Step:
        """What `ident` has, or waits for; with an address only that."""
        raise NotImplementedError

    # -- names -----------------------------------------------------------------------------------

    def lookup(self, name: str, network: bytes | None = None) -> list[str]:
        """Addresses, IPv4 and IPv6, another one first each time; [] also for what is no name."""
        raise NotImplementedError

    def reverse(self, address: str) -> list[str]:
        """Full names of an address."""
        raise NotImplementedError

    # -- data ------------------------------------------------------------------------------------

    def table(self, network: bytes) -> Table | None:
        """Where frames of a network of this host go; None: it has no such network."""
        raise NotImplementedError

    def heard(self, index: int, source: Address, now: float) -> Step:
        """A worker opened data under this index that came from there: the first at every new
        source, and now and then."""
        raise NotImplementedError

    def renew(self, number: int, now: float) -> Step:
        """The worker that counted what was sent to that peer, by `PeerPath.number`, or received,
        is gone: new keys at once."""
        raise NotImplementedError

    def relay(self, number: int, datagram: bytes, now: float) -> Step:
        """A datagram of data (type 6) for a peer whose way is relay; lost where there is none."""
        raise NotImplementedError

    def saw_vxlan(self, data: bytes, size: int, now: float) -> Step:
        """A probe came out of a VXLAN device (`planes.ProbeVxlan`); nonsense is ignored."""
        raise NotImplementedError

    def too_large(self, to: Address, size: int, limit: int, now: float) -> Step:
        """The kernel did not send a `whole` datagram of `size` bytes (EMSGSIZE); `limit`: bytes of
        UDP's payload that it would (IP_MTU less headers), 0: not known."""
        raise NotImplementedError

    def no_fastdp(self, why: str, now: float) -> Step:
        """Why the kernel's VXLAN cannot be used on this host any more; "": it can again."""
        raise NotImplementedError

    # -- looking ---------------------------------------------------------------------------------

    def status(self, now: float) -> Status:
        """All that `weave status`, `status peers | connections | targets | dns | ipam` and `report`
        show."""
        raise NotImplementedError

    def peer_name(self, peer: PeerId) -> str:
        """Its nickname, or the beginning of its id."""
        raise NotImplementedError
