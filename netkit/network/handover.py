"""The container's end of a link where another engine moves, names and sets it up.  Pure.

The link is made in netkitd's own namespace under a name that its engine is given (a libnetwork
driver's SrcName).  Once the engine has its namespace, what is inside is its business: the pair is
known by the host's end, and what a driver lists for the far end is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from netkit.model import HOST, Addr, Key, Link, LinkInside, Peer, Resource, Route
from netkit.model.openvswitch import Offload, PortOffload
from netkit.network.endpoint_store import NO_NAMESPACE
from netkit.spec import Sandbox

NAME_LABEL = "netkit.docker.name"  # on a network: what the other engine calls it


@dataclass(frozen=True, slots=True, kw_only=True)
class FarEnd:
    """The container's end of a pair whose name there is not known yet."""

    ns: str
    handover: str  # its name in netkitd's namespace, and for a moment in the container's
    mark: str  # the owner of the pair
    prefix: str  # of interface names on its network
    taken: frozenset[str] = frozenset()  # by other endpoints of the container
    identified: bool = False  # the container is known: its engine has set it up


def seen_name(far: FarEnd, links: Collection[LinkInside]) -> str:
    """The name of the far end among the links of its namespace; "" if its engine gave it none."""
    found = (k.name for k in links if k.mark == far.mark and k.name != far.handover)
    return next(found, "")


def lowest_free_name(far: FarEnd, links: Collection[LinkInside]) -> str:
    """The name to make a far end with that was deleted before it was seen.

    dockerd counts on from the number of interfaces that there were (20.10), or takes the lowest
    free number (28): this is never a higher one than dockerd's, and so none that it gives next.
    """
    taken = far.taken | {link.name for link in links}
    names = (f"{far.prefix}{n}" for n in itertools.count())
    return next(name for name in names if name not in taken)


def handed_over(resources: Iterable[Resource], sandbox: Sandbox) -> Iterator[Resource]:
    """Yield what is left to netkit of an endpoint that a driver made for `sandbox.ns`.

    Addresses, routes, neighbours and settings of the far end are the engine's; its link is here
    until the engine has the namespace, and with it what stays when it moves: what it
    leaves to hardware, or to ovs-vswitchd.
    """
    for r in resources:
        if isinstance(r, Link) and r.peer is not None and r.peer.ns == sandbox.ns:
            yield replace(r, peer=_here(r.peer, sandbox))
        elif getattr(r, "ns", HOST) != sandbox.ns:
            yield r
        elif sandbox.ns == NO_NAMESPACE:
            if isinstance(r, Link):
                yield replace(r, ns=HOST, name=sandbox.handover)
            elif isinstance(r, Offload | PortOffload):
                yield replace(r, ns=HOST, dev=sandbox.handover)


def made_inside(
    resources: Iterable[Resource], sandbox: Sandbox
) -> tuple[dict[Key, Link], dict[Key, Resource]]:
    """Return the pair as it is made where another tool deleted it, and what is at its far end.

    The engine has no part in that, and does not notice: the far end is made in its namespace, with
    the name, addresses and routes that it had.  Where the engine has changed them since, what it
    made stays.  Routes have a key for each link that may carry them.
    """
    pair: dict[Key, Link] = {}
    inside: dict[Key, Resource] = {}
    for r in resources:
        if isinstance(r, Link) and r.peer is not None and r.peer.ns == sandbox.ns:
            pair[r.key] = replace(r, peer=replace(r.peer, leaves=True))
        elif isinstance(r, Addr | Route | Offload | PortOffload) and r.ns == sandbox.ns:
            inside[(*r.key, r.dev)] = replace(r, accept_existing=isinstance(r, Addr | Route))
    return pair, inside


def _here(peer: Peer, sandbox: Sandbox) -> Peer:
    left = sandbox.ns != NO_NAMESPACE
    return replace(peer, ns=HOST, name=sandbox.handover, leaves=True, left=left)
