"""Filter events for those that show drift of ours.  Pure, but for a lock.

What should be is kept as it was last applied, so that what netkit does itself is recognised by its
effect: the kernel does not report who changed a link.  It is no second truth: a hint is only where
to look, and each look is made from rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from netkit.model import (
    HOST,
    Addr,
    Fdb,
    Key,
    Link,
    Neigh,
    Resource,
    Route,
    State,
    Sysctl,
    changed,
)
from netkit.model.link_events import (
    AddressDeleted,
    EventsLost,
    ForwardingDisabled,
    ForwardingEntryDeleted,
    LinkChanged,
    LinkEvent,
    NeighbourChanged,
    RouteChanged,
)
from netkit.model.uplink import EnslavedNic
from netkit.network.desired import FORWARDING as IP_FORWARD
from netkit.network.deviation import ETHERNET, explicit, follows
from netkit.reconcile.plan import Op

EVERYTHING = "*"  # instead of an owner: look everywhere
KINDS = (Link, Addr, Route, Neigh, Fdb, EnslavedNic)
FORWARDING: Key = ("sysctl", HOST, IP_FORWARD)


class LinkInterest:
    """Thread-safe.  Implements netkit.kernel.netlink.watch.Interest by names of the host's links.

    A hint is the owner mark of what the event was about, or EVERYTHING.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[Key, Resource] = {}
        self._on: dict[tuple[str, str], set[Key]] = {}  # keys of what needs a link
        self._added: set[str] = set()
        self._known: set[str] = set()  # marks of networks of which all that should be is known
        self._new: set[str] = set()  # and of which only steps were seen
        self._others: dict[str, tuple[bool | None, str | None]] = {}  # up and master, not ours

    def __contains__(self, name: str) -> bool:
        return (HOST, name) in self._on

    def added(self) -> set[str]:
        with self._lock:
            out, self._added = self._added, set()
            return out

    # what should be

    def applied(self, ops: Sequence[Op]) -> None:
        """Note steps that netkit has done."""
        with self._lock:
            for op in ops:
                if op.after is None:
                    self._drop_inside(self._wanted.get(op.subject.key))
                    self._drop(op.subject.key)
                else:
                    self._put(op.after)
                    if isinstance(op.after, Link):
                        self._new |= {_network(op.after)} - self._known - {""}

    def learn(self, desired: State) -> None:
        """Some of what should be, as of now.

        What a network adopted as it was, a bridge of the administrator's, took no step.
        """
        with self._lock:
            for r in desired.values():
                self._put(r)

    def replace(self, desired: State, unknown: Iterable[str] = ()) -> None:
        """Set the desired state; that of the owners in `unknown` stays as it was."""
        with self._lock:
            kept = {*unknown}
            old = [k for k, r in self._wanted.items() if r.owner not in kept and k not in desired]
            for key in old:
                self._drop(key)
            for r in desired.values():
                self._put(r)
            self._known = {_network(r) for r in desired.values()}
            self._new -= self._known

    def _put(self, r: Resource) -> None:
        r = explicit(r)
        if r.key == FORWARDING:
            self._wanted[r.key] = r
        if not isinstance(r, KINDS) or r.owner is None:
            return
        if r.key not in self._wanted:
            for place in _links(r):
                if place not in self._on and place[0] == HOST:
                    self._added.add(place[1])
                self._on.setdefault(place, set()).add(r.key)
        self._wanted[r.key] = r

    def _drop_inside(self, link: Resource | None) -> None:
        """Drop what is on a link's end in a container: it goes with the link, without a step."""
        if not isinstance(link, Link):
            return
        ends = [(link.ns, link.name), *([(link.peer.ns, link.peer.name)] if link.peer else ())]
        for place in ends:
            for key in [*self._on.get(place, ())] if place[0] != HOST else ():
                self._drop(key)

    def _drop(self, key: Key) -> None:
        if (r := self._wanted.pop(key, None)) is None or isinstance(r, Sysctl):
            return
        for place in _links(r):
            keys = self._on.get(place, set())
            keys.discard(key)
            if not keys:
                self._on.pop(place, None)
                self._others.pop(place[1], None)

    # what happened

    def hints(self, events: Iterable[LinkEvent]) -> dict[str, bool]:
        """Return owners, and whether nothing but an address of theirs was deleted, with its route.

        Of several events about a link only the last one counts: what follows from them.
        """
        links: dict[tuple[str, bool], LinkChanged] = {}
        out: dict[str, bool] = {}
        events = list(events)  # before the lock: reading them calls `added`
        deleted = {(e.dev, e.address.network) for e in events
                   if isinstance(e, AddressDeleted) and not e.far}  # fmt: skip
        with self._lock:
            for event in events:
                if isinstance(event, LinkChanged):
                    links[event.dev, event.far] = event
                    continue
                for owner in self._owners(event):
                    gentle = (isinstance(event, AddressDeleted) and not event.far) or (
                        isinstance(event, RouteChanged) and not event.far and event.deleted
                        and (event.dev, event.dst) in deleted
                    )  # fmt: skip
                    out[owner] = out.get(owner, True) and gentle
            for changed_link in links.values():
                out |= dict.fromkeys(self._of_link(changed_link), False)
            out |= dict.fromkeys(self._new, False)  # looked at once, and learned
            self._known |= self._new
            self._new = set()
        return out

    def _owners(self, event: LinkEvent) -> set[str]:
        match event:
            case EventsLost():
                return {EVERYTHING}
            case ForwardingDisabled():
                return self._of(FORWARDING)
            case AddressDeleted():
                place = self._place(event.dev, far=event.far)
                return self._of(("addr", *place, str(event.address)))
            case RouteChanged():
                return self._of_route(event)
            case NeighbourChanged():
                key = ("neigh", HOST, event.dev, str(event.address))
                want = self._wanted.get(key)
                same = isinstance(want, Neigh) and want.mac == event.mac
                return set() if same else self._of(key)
            case ForwardingEntryDeleted():
                return self._of(("fdb", HOST, event.dev, event.mac))
        return set()

    def _of_route(self, event: RouteChanged) -> set[str]:
        place = self._place(event.dev, far=event.far)
        owners = self._of(("route", place[0], str(event.dst)))
        if event.deleted:
            for key in self._on.get(place, ()):
                r = self._wanted[key]
                if isinstance(r, Addr) and (r.ns, r.dev) == place and (
                    r.address.network == event.dst
                ):  # fmt: skip
                    owners |= self._of(key)
        return owners

    def _of_link(self, event: LinkChanged) -> set[str]:
        place = self._place(event.dev, far=event.far)
        want = self._wanted.get(("link", HOST, event.dev))
        if event.link is None:
            self._others.pop(event.dev, None)
            return self._standing_on(place)
        if not isinstance(want, Link):
            shape = event.link.up, event.link.master
            # The first event about it may be that it was set down.
            before = self._others.get(event.dev, (True, event.link.master))
            self._others[event.dev] = shape
            return self._standing_on(place) if shape != before else set()
        if event.far and want.peer is not None and want.peer.leaves:
            return set()
        if event.far:
            sizes = (want.mtu, event.link.mtu), (want.gso_max_size, event.link.gso_max_size)
            same = event.link.up and all(w in {None, seen} for w, seen in sizes)
            name = want.peer.name if want.peer else event.link.name
            return set() if same and name == event.link.name else self._of(want.key)
        names = changed(replace(want, peer=None), event.link)
        if want.accept_existing and event.link.owner is None:
            names -= want.mutable | {"owner"}
        sized = follows(want) and event.link.mtu not in {None, ETHERNET}  # by whom, a look shows
        return self._of(want.key) if names or sized else set()

    def _place(self, dev: str, *, far: bool) -> tuple[str, str]:
        """(namespace, name) of a link of the host, or of the far end of a pair."""
        near = self._wanted.get(("link", HOST, dev)) if far else None
        if isinstance(near, Link) and near.peer:
            return near.peer.ns, near.peer.name
        return (HOST, dev) if not far else ("?", dev)

    def _standing_on(self, place: tuple[str, str]) -> set[str]:
        return {o for key in self._on.get(place, ()) for o in self._of(key)}

    def _of(self, key: Key) -> set[str]:
        r = self._wanted.get(key)
        return {r.owner} if r is not None and r.owner is not None else set()


def _network(r: Resource) -> str:
    """The mark of the network that this is of, or is in; "" of what has none."""
    return ":".join((r.owner or "").split(":")[:3])


def _links(r: Resource) -> set[tuple[str, str]]:
    """(namespace, name) of all that an event about `r` may name."""
    match r:
        case Link():
            return {(r.ns, r.name)}
        case Addr() | Route() | Neigh() | Fdb():
            return {(r.ns, r.dev)}
        case EnslavedNic():
            return {(HOST, r.dev), (HOST, r.bridge)}
    return set()
