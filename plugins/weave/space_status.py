"""What `status ipam` and `report` show of the address space; values for others to print."""

from __future__ import annotations

from dataclasses import dataclass

from plugins.weave import prefixes
from plugins.weave.council import Council
from plugins.weave.identity import PeerId
from plugins.weave.lease import PROMISE
from plugins.weave.requests import UNFOUNDED, UNREACHED
from plugins.weave.space import Space


@dataclass(frozen=True, slots=True)
class PeerShare:
    """What one peer owns of the range."""

    peer: PeerId
    name: str
    addresses: int
    share: float  # of the range, 0 to 1
    reachable: bool
    free: int | None  # addresses: of others a power of two that is not below it; None: not known
    council: bool  # whether it is one of those that decide
    reclaimed_in: float | None  # s until what it owns passes to another if it stays away


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that was not answered yet."""

    ident: bytes
    wanted: str  # an address, a prefix, or "any"
    why: str
    left: float  # s until it is refused


@dataclass(frozen=True, slots=True)
class SpaceStatus:
    """Of one peer.  `range` is None where it has met no peer whose range it could join."""

    range: str | None
    ledger: bytes | None  # which range: peers of different ones have nothing in common
    founder: PeerId | None
    entries: int  # decisions on owners, so far
    peers: tuple[PeerShare, ...]  # the largest share first
    unreachable: float  # share of the range that peers out of reach own
    used: int  # addresses in use on this host, all realms
    active: int  # of these, addresses of the range
    resting: int  # that were just freed
    lease_left: float | None  # s; None: it owns nothing that would need one
    fenced: str | None  # why nothing may be in use here; None: it may
    waiting: tuple[Waiting, ...]
    conflicts: tuple[str, ...]  # what the user has to see to, and how
    without: str = ""  # why there is no range; "": there is one, or no peer was to be met


def usable(space: Space, now: float) -> list[tuple[int, int]]:
    """(first, last) of the runs of the range that this host may give out now: no two hosts of one
    ledger have one in common, ever.  For simulations and checks."""
    if space.council is None or space.fenced(now):
        return []
    return list(space.holdings.pool(space.council.replica.ledger.main).spare_runs)


def in_use(space: Space, now: float) -> dict[tuple[bytes, int], bytes]:
    """(realm's id, address) -> whose it is, of endpoints that are not fenced."""
    if space.fenced(now):
        return {}
    return {
        (realm, address): use.ident
        for realm, pool in space.holdings.pools.items()
        for address, use in pool.uses.items()
        if use.ident
    }


def status(space: Space, now: float) -> SpaceStatus:
    council = space.council
    if council is None:
        return SpaceStatus(
            None, None, None, 0, (), 0.0, 0, 0, 0, None, None, _waiting(space, now), (),
            UNFOUNDED if space.unfounded(now) else UNREACHED,
        )  # fmt: skip
    uses = [use for pool in space.holdings.pools.values() for use in pool.uses.values()]
    ledger, owns = council.replica.ledger, space.holdings.owns
    shares = _shares(space, council, now)
    return SpaceStatus(
        range=str(ledger.main.range), ledger=ledger.id, founder=ledger.genesis.founder.peer,
        entries=ledger.number, peers=shares,
        unreachable=sum(each.share for each in shares if not each.reachable),
        active=sum(bool(use.ident) for use in space.holdings.pool(ledger.main).uses.values()),
        used=sum(bool(use.ident) for use in uses), resting=sum(not use.ident for use in uses),
        lease_left=max(council.holder.lease.until - now, 0.0) if owns else None,
        fenced=_fenced(space, now),
        waiting=_waiting(space, now), conflicts=_conflicts(space, council),
    )  # fmt: skip


def _fenced(space: Space, now: float) -> str | None:
    """Why nothing that this host has may be in use."""
    matters = space.holdings.owns or space.removed_by is not None
    return space.why_fenced() if matters and space.fenced(now) else None


def _shares(space: Space, council: Council, now: float) -> tuple[PeerShare, ...]:
    ledger, context = council.replica.ledger, space.context
    whole = ledger.main.range
    counts: dict[PeerId, int] = dict.fromkeys(ledger.council, 0)
    for first, last, owner in ledger.pieces(ledger.main):
        counts[owner] = counts.get(owner, 0) + last - first + 1
    return tuple(
        PeerShare(
            peer, context.name(peer), count, count / whole.size, context.lives(peer),
            _free(space, council, peer), peer in ledger.council,
            _reclaimed_in(council, peer, now) if not context.lives(peer) else None,
        )
        for peer, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    )  # fmt: skip


def _free(space: Space, council: Council, peer: PeerId) -> int | None:
    if peer == space.me:
        main = council.replica.ledger.main
        return space.holdings.pool(main).free(main.range)
    summary = space.meeting.summaries.get(peer)
    return None if summary is None else 1 << summary.free


def _reclaimed_in(council: Council, peer: PeerId, now: float) -> float | None:
    """As far as this member knows; others do not know."""
    if not council.voting.member:
        return None
    return min(max(council.voting.promises.free_at(peer) - now, 0.0), PROMISE)


def _waiting(space: Space, now: float) -> tuple[Waiting, ...]:
    shown = []
    for request in space.requests.waiting.values():
        wanted = str(request.subnet) if request.subnet else "any"
        if request.address is not None:
            within = request.subnet or (request.place.prefix if request.place else None)
            family = within.family if within else 4
            wanted = prefixes.text(family, request.address)
        why = space.requests.why(request.ticket)
        shown.append(Waiting(request.ident, wanted, why, max(request.until - now, 0.0)))
    return tuple(shown)


def _conflicts(space: Space, council: Council) -> tuple[str, ...]:
    name = space.context.name
    found = [
        f"{name(peer)} has addresses of a range that was founded apart from this one, so that both"
        " may use the same: run `netkit weave reset` on the hosts of one of the two, and launch"
        " them again"
        for peer in space.meeting.strangers
    ]
    for fork in council.replica.forks.values():
        voters = ", ".join(name(vote.peer) for vote in fork.votes)
        if fork.entry.generation > council.replica.ledger.generation:
            found.append(
                f"{voters} decides on addresses alone, by `rmpeer --force`: run the same here to"
                " follow, or `netkit weave reset` there if that was a mistake"
            )
        else:
            found.append(
                f"{voters} decided on addresses differently from what is known here: a copy of an"
                " old disk is in use; run `netkit weave reset` on that host"
            )
    return tuple(found)
