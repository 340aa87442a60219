"""The overlay's core as its process (netkit.overlay) wants it: what `netkit.overlays` names.

Everything that the process keeps for it is in rows: the identity, what netkitd said of this host,
and what `Overlay` persists.  So a database that is lost is a new peer, and a copied one is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

from netkit.errors import InvalidSpec, NetkitError
from netkit.overlay import core as shell
from netkit.overlay import verbs
from netkit.overlay.core import Reach, Receiving, Remote, Settled
from plugins.weave import aims, identity, wire
from plugins.weave.donation import TABLE as OFFERS
from plugins.weave.events import RelayedData
from plugins.weave.gathering import Outcome
from plugins.weave.holdings import REALMS
from plugins.weave.holdings import TABLE as ADDRESSES
from plugins.weave.host import NETWORKS, Host
from plugins.weave.identity import PeerId
from plugins.weave.ledger_replica import TABLE as LEDGER
from plugins.weave.local import Granted
from plugins.weave.locating import answer
from plugins.weave.members import membership
from plugins.weave.overlay import Overlay
from plugins.weave.overview import warnings
from plugins.weave.planes import (
    Accept,
    AcceptNoMore,
    MembersChanged,
    PeerGone,
    PeerPath,
    ProbeVxlan,
    TableChanged,
)
from plugins.weave.primitives import Primitives
from plugins.weave.removal import Removed
from plugins.weave.requests import Refused
from plugins.weave.settings import Settings
from plugins.weave.settling import granted, news, reach, refused, removed, sent
from plugins.weave.step import NOTHING, Address, Change, Event, Step

IDENTITY: Final = "weave_identity"
"""One row, b"": the document of `identity.dump`."""
LAUNCH: Final = "weave_launch"
"""One row, b"": which launch the targets are of."""
REMOVAL, LEAVING, PARTLY = "removal", "leaving", "partly"  # tickets; others are numbers
IDLE: Final = shell.Step()
FASTDP_OFF: Final = "it was launched with --no-fastdp"


def make(
    *, settings: shell.Settings, rows: shell.Rows, machine: str, boot: bytes,
    addresses: Sequence[str], software: str, random: Callable[[int], bytes], now: float,
) -> Entry:  # fmt: skip
    """See `netkit.overlay.core.Make`."""
    crypto = Primitives()
    kept = rows.get(IDENTITY, {}).get(b"")
    persist: list[Change] = []
    if kept is None:
        us = identity.make(crypto, random)
        persist.append(Change(IDENTITY, b"", identity.dump(us, machine)))
    else:
        us = identity.load(kept, machine, crypto)
    hosts = [*settings.addresses, *addresses]
    where = tuple(Address(host, settings.port) for host in dict.fromkeys(hosts))
    chosen = Settings(
        nickname=settings.nickname, software=software, addresses=where[:8],
        password=settings.password, trusted_subnets=settings.trusted_subnets,
        discovery=settings.discovery, range=settings.range, mtu=settings.mtu,
        no_fastdp="" if settings.fastdp else FASTDP_OFF,
    )  # fmt: skip
    overlay = Overlay(
        identity=us, crypto=crypto, random=random, settings=chosen, boot=boot, now=now
    )
    return Entry(overlay, us.peer, settings, rows, persist)


class Entry:
    """`netkit.overlay.core.Core`."""

    synced = frozenset((IDENTITY, LEDGER, OFFERS, ADDRESSES, REALMS))
    lengths: Mapping[int, int] = {wire.Kind.FIRST: wire.HANDSHAKE}

    def __init__(
        self, overlay: Overlay, me: PeerId, settings: shell.Settings, rows: shell.Rows,
        persist: Sequence[Change],
    ) -> None:  # fmt: skip
        self._overlay, self._me, self._settings = overlay, me, settings
        self._rows, self._first = rows, list(persist)
        self._host = Host(overlay, rows)
        self._reaches: dict[bytes, Reach] = {}
        self._receiving: dict[int, Receiving] = {}
        self._removing = False
        self._reported = False  # that members changed
        self.revision = 0

    # -- reading ---------------------------------------------------------------------------------

    def reaches(self) -> Mapping[bytes, Reach]:
        return self._reaches

    def receiving(self) -> Mapping[int, Receiving]:
        return self._receiving

    def indexes(self) -> frozenset[int]:
        return self._overlay.node.sessions.indexes()

    def networks(self) -> Sequence[verbs.Network]:
        return list(self._host.networks.values())

    def remotes(self, network: verbs.Network) -> tuple[Sequence[Remote], Sequence[bytes]]:
        table = self._overlay.table(NETWORKS.key(network))
        if table is None:
            return (), ()
        found = [Remote(each.peer, each.mac, each.addresses) for each in table.remotes]
        return found, table.members

    # -- life ------------------------------------------------------------------------------------

    def start(self, now: float) -> shell.Step:
        overlay, settings = self._overlay, self._settings
        step = Step(persist=tuple(self._first)) + overlay.start(self._rows, now)
        step += self._host.restate(now)
        ours = {each.host for each in overlay.settings.addresses}
        alone = not settings.resume and {peer.host for peer in settings.peers} <= ours
        if settings.founder or (settings.peers and alone):
            step += overlay.prime(now)
        launch = settings.launch.encode()
        if self._rows.get(LAUNCH, {}).get(b"") != launch:
            step += Step(persist=(Change(LAUNCH, b"", launch),))
            step += aims.connect(overlay, settings.peers, now, only=not settings.resume)[0]
        self._rows, self._first = {}, []
        return self._shell_step(step, now)

    def deadline(self) -> float:
        return self._overlay.deadline()

    def tick(self, now: float) -> shell.Step:
        return self._shell_step(self._overlay.tick(now), now)

    def receive(self, datagram: bytes, source: shell.Where, now: float) -> shell.Step:
        step = self._overlay.receive(datagram, Address(*source), now)
        return IDLE if step is NOTHING else self._shell_step(step, now)

    def relay(self, number: int, datagram: bytes, now: float) -> shell.Step:
        return self._shell_step(self._overlay.relay(number, datagram, now), now)

    def observed(self, index: int, source: shell.Where, now: float) -> shell.Step:
        return self._shell_step(self._overlay.observed(index, Address(*source), now), now)

    def lossy(self, number: int, lossy: bool, now: float) -> shell.Step:
        return self._shell_step(self._overlay.lossy(number, lossy, now), now)

    def saw_vxlan(self, data: bytes, size: int, now: float) -> shell.Step:
        return self._shell_step(self._overlay.saw_vxlan(data, size, now), now)

    def too_large(self, to: shell.Where, size: int, now: float) -> shell.Step:
        return self._shell_step(self._overlay.too_large(Address(*to), size, 0, now), now)

    def renew(self, numbers: Sequence[int], now: float) -> shell.Step:
        step = Step()
        for number in numbers:
            step += self._overlay.renew(number, now)
        return self._shell_step(step, now)

    def no_fastdp(self, why: str, now: float) -> shell.Step:
        off = why or ("" if self._settings.fastdp else FASTDP_OFF)
        return self._shell_step(self._overlay.no_fastdp(off, now), now)

    # -- what clients ask ------------------------------------------------------------------------

    def do(self, verb: verbs.Known, now: float) -> tuple[Any, shell.Step]:
        result, step = self._do(verb, now)
        if not isinstance(result, NetkitError):
            return result, self._shell_step(step, now)
        done = self._shell_step(step, now)  # what was done is kept, and the rest is reported
        refusal = Settled(PARTLY, error=result)
        return shell.Pending(PARTLY), replace(done, settled=[*done.settled, refusal])

    def _do(self, verb: verbs.Known, now: float) -> tuple[Any, Step]:
        overlay = self._overlay
        match verb:
            case verbs.Connect():
                return _partly(aims.connect(overlay, verb.peers, now, only=verb.replace))
            case verbs.Forget():
                return _partly(aims.forget(overlay, verb.peers, now))
            case verbs.Allocate():
                ticket, step = overlay.allocate(
                    verb.ident.encode(), now, now + verb.seconds, subnet=verb.subnet or None,
                    network=self._host.key(verb.network),
                )  # fmt: skip
                return shell.Pending(ticket), step
            case verbs.Claim():
                host, slash, _ = verb.address.partition("/")
                ticket, step = overlay.claim(
                    verb.ident.encode(), host, now, now + verb.seconds,
                    subnet=verb.address if slash else None,
                    network=self._host.key(verb.network),
                )  # fmt: skip
                return shell.Pending(ticket), step
            case verbs.Release():
                return None, overlay.release(verb.ident.encode(), now, verb.address or None)
            case (
                verbs.Held() | verbs.SubnetsOf() | verbs.Warnings() | verbs.DnsLookup()
                | verbs.Locate() | verbs.Members() | verbs.Status() | verbs.Report()
            ):  # fmt: skip
                return self._look(verb, now), Step()
            case verbs.RmPeer():
                return self._remove(verb, now)
            case verbs.Prime():
                return None, overlay.prime(now)
            case verbs.Reset():
                return shell.Pending(LEAVING), overlay.leave(now, now + verb.seconds)
            case _:
                self.revision += 1
                return _partly(self._host.do(verb, now))

    def _look(self, verb: verbs.Known, now: float) -> Any:
        """What changes nothing."""
        match verb:
            case verbs.Held():
                held = self._overlay.held()
                return [[ident.decode(errors="replace"), at] for ident, at in held]
            case verbs.SubnetsOf():
                found = self._overlay.networks.called(verb.name)
                return list(next(found, ()))
            case verbs.Warnings():
                return list(warnings(self._overlay, now))
            case verbs.DnsLookup():
                return self._lookup(verb)
            case verbs.Locate():
                return answer(self._overlay, verb)
            case verbs.Members():
                self._reported = False
                keys = {NETWORKS.key(each): each.id for each in self._host.networks.values()}
                return membership(self._overlay, keys, verb.after)
        return self._overlay.status(now)

    def _remove(self, verb: verbs.RmPeer, now: float) -> tuple[Any, Step]:
        if self._removing:
            raise InvalidSpec("another peer is being removed: try again")
        step = self._overlay.remove_peer(verb.peer, now, now + verb.seconds, force=verb.force)
        self._removing = True
        return shell.Pending(REMOVAL), step

    def _lookup(self, verb: verbs.DnsLookup) -> list[str]:
        if _is_address(verb.name):
            return self._overlay.reverse(verb.name)
        key = self._host.key(verb.network) if verb.network else None
        return self._overlay.lookup(verb.name, key)

    # -- what a step says ------------------------------------------------------------------------

    def _shell_step(self, step: Step, now: float) -> shell.Step:
        settled: list[Settled] = []
        notifications: list[dict[str, Any]] = []
        probes: list[shell.Probe] = []
        relayed: list[bytes] = []
        over = False
        for event in step.events:
            if isinstance(event, ProbeVxlan):
                probes += self._probe(event)
            elif isinstance(event, MembersChanged) and self._reported:
                continue  # it was not read since
            elif isinstance(event, RelayedData):
                relayed.append(event.datagram)
            elif isinstance(event, Removed) and event.peer == self._me:
                settled.append(Settled(LEAVING, event.text))
                over = True
            elif (answer := self._settled(event)) is not None:
                settled.append(answer)
            else:
                self._note(event)
                notifications += news(event, self._overlay.peer_name)
        return shell.Step(
            persist=step.persist, send=[sent(each) for each in step.send], settled=settled,
            notifications=notifications, probes=probes, relayed=relayed, over=over,
        )  # fmt: skip

    def _settled(self, event: Event) -> Settled | None:
        match event:
            case Granted():
                return granted(event)
            case Refused():
                return refused(event)
            case Removed():
                self._removing = False
                return removed(event, REMOVAL)
        return None

    def _note(self, event: Event) -> None:
        """Keep what the process reads."""
        match event:
            case PeerPath():
                self._reaches[event.peer] = reach(event)
            case PeerGone():
                self._reaches.pop(event.peer, None)
            case Accept():
                host = event.where.host if isinstance(event.where, Address) else ""
                self._receiving[event.index] = Receiving(event.index, event.number, event.key, host)
            case AcceptNoMore():
                self._receiving.pop(event.index, None)
            case MembersChanged():
                self._reported = True
                return
            case TableChanged():
                pass
            case _:
                return
        self.revision += 1

    def _probe(self, event: ProbeVxlan) -> list[shell.Probe]:
        source = self._host.address_of(event.mac, event.vni)
        if source is None:
            return []
        return [shell.Probe(event.to.host, event.vni, event.mac, source, event.data, event.size)]


def _partly(outcome: Outcome) -> tuple[Any, Step]:
    return outcome[1], outcome[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
