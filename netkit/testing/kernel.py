"""A kernel made of a dict, for tests without root.  It enforces what Linux enforces.

It keeps what Linux keeps, and no more: no `depends_on`, no `via`, no owner where there is no mark,
a far end only with the near one.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from netkit.driver import derive_mac
from netkit.errors import KernelError, NetkitError, unexpected
from netkit.model import (
    HOST,
    PORT_FLAGS,
    Addr,
    BridgeRedirect,
    Chain,
    ConnectedRoute,
    Fdb,
    Key,
    Link,
    Neigh,
    Netns,
    Peer,
    Resource,
    Route,
    Rule,
    State,
    Sysctl,
)
from netkit.model.ipset import IpSet
from netkit.model.nftables import NftChain, NftRule, NftSet, NftTable
from netkit.model.openvswitch import (
    Offload,
    OvsBridge,
    OvsPort,
    PortOffload,
    SegmentedPort,
    TunnelRoute,
)
from netkit.model.ovn import Chassis, Northbound
from netkit.model.vxlan import VxlanFdb
from netkit.reconcile.converge import Change, converge, fill_unobservable, ownership
from netkit.reconcile.plan import Op, Plan, diff
from netkit.testing import switches
from netkit.testing.refusals import Refusals

NETNS = "/run/netkit/netns"
LIMITED = ("veth", "tap")  # kinds that have a gso_max_size
SET_AT_FIRST = frozenset({"learning", "flood", "mcast_flood", "bcast_flood"})


@dataclass
class FakeKernel:
    """`fail_at` makes the n-th step from now raise, once."""

    things: dict[Key, Resource] = field(default_factory=dict)
    peers: dict[Key, Peer] = field(default_factory=dict)  # by key of the host's end
    fail_at: int | None = None
    log: list[str] = field(default_factory=list)
    unrouted: set[Key] = field(default_factory=set)  # connected routes that were deleted

    @classmethod
    def holding(cls, resources: Iterable[Resource]) -> FakeKernel:
        """A kernel in which these exist; in an order in which they can come to be."""
        kernel = cls()
        kernel.apply([Op(None, r) for r in resources])
        kernel.log.clear()
        return kernel

    def observe(self, keys: Iterable[Key]) -> State:
        """A peer is seen if one of `keys` names its namespace."""
        keys = list(keys)
        spaces = {k[1] for k in keys}
        out = {k: self.things[k] for k in keys if k in self.things}
        out |= {k: r for k in keys if (r := self._connected(k))}
        for k, r in out.items():
            peer = self.peers.get(k)
            if isinstance(r, Link) and peer and peer.ns in spaces:
                out[k] = replace(r, peer=peer)
        return out

    def _connected(self, key: Key) -> Resource | None:
        """The route that came with an address, unless it was deleted."""
        address = self.things.get(("addr", *key[1:]))
        if key[0] != "connected" or key in self.unrouted or not isinstance(address, Addr):
            return None
        return ConnectedRoute(dev=key[2], address=address.address, ns=key[1])

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        return {
            k: r
            for k, r in ((k, switches.with_owner(self.things, r)) for k, r in self.things.items())
            if ((r.is_firewall or not policy) and (r.owner or "").startswith(prefix))
            or (not policy and isinstance(r, Netns) and r.path.startswith(NETNS))
        }

    def apply(self, ops: Sequence[Op]) -> None:
        for done, op in enumerate(ops):
            try:
                self._step(op)
            except KernelError as error:
                error.done = done
                raise

    def _step(self, op: Op) -> None:
        if self.fail_at is not None:
            if self.fail_at == 0:
                self.fail_at = None
                raise KernelError(f"injected at {op}", errno=errno.EIO)
            self.fail_at -= 1
        key = op.subject.key
        have = self.things.get(key)
        if op.before is None and have is not None and not have.global_setting:
            raise KernelError(f"{key} exists", errno=errno.EEXIST)
        if (
            op.before is not None
            and not op.subject.global_setting
            and have != self._seen(op.before)
        ):
            raise KernelError(f"{key}: have {have}, expected {op.before}", errno=errno.ENOENT)
        if isinstance(op.after, ConnectedRoute):
            Refusals(self.things, self.peers).must_be_there(op.after.ns, op.after.dev, op.after)
            self.unrouted.discard(key)
        elif op.after is None:
            self._remove(op.subject)
        else:
            self._must_fit(op.after, new=op.before is None)
            if op.before is None and isinstance(op.after, Link) and op.after.peer:
                self.peers[key] = op.after.peer
            self.things[key] = self._seen(op.after)
            if isinstance(op.after, Chassis):
                switches.integrate(self.things)
        self.log.append(str(op))

    def _seen(self, r: Resource) -> Resource:
        """As an observation would return it."""
        match r:
            case Link():
                return replace(
                    r,
                    **_port(r),
                    peer=None,
                    depends_on=(),
                    accept_existing=False,
                    mtu=r.mtu or 1500,
                    gso_max_size=(r.gso_max_size or 65536) if r.kind in LIMITED else None,
                    mac=r.mac or derive_mac(r.ns, r.name),
                    up=bool(r.up),
                    filtered=bool(r.filtered) if r.kind == "bridge" else None,
                    snooping=r.snooping is not False if r.kind == "bridge" else None,
                )
            case Fdb() | VxlanFdb() | BridgeRedirect():
                link = self.things.get(("link", r.ns, r.dev))
                return replace(r, owner=link.owner if link else None, depends_on=())
            case Addr() | Route() | Neigh():
                link = self.things.get(("link", r.ns, r.dev)) or self._near(r.ns, r.dev)
                return replace(r, owner=link.owner if link else None, via=None, depends_on=())
            case IpSet():
                return replace(r, owner=r.owner if r.members else None, depends_on=())
            case OvsBridge():
                return replace(r, depends_on=(), up=bool(r.up))
        return replace(r, owner=r.owner if r.carries_owner else None, depends_on=())

    def _near(self, ns: str, dev: str) -> Resource | None:
        """The host's end of a pair whose mark is also that of what stands on the far one."""
        ends = (k for k, peer in self.peers.items() if (peer.ns, peer.name) == (ns, dev))
        return next((self.things[k] for k in ends if k in self.things), None)

    def _must_fit(self, r: Resource, *, new: bool) -> None:
        """Raise the error that Linux would return for this one."""
        Refusals(self.things, self.peers).must_fit(r, new=new)

    def _remove(self, r: Resource) -> None:
        match r:
            case Sysctl() | Offload() | PortOffload() | SegmentedPort() | TunnelRoute() | (
                ConnectedRoute() | Chassis() | Northbound()
            ):
                return
            case OvsBridge() | OvsPort():
                switches.remove(self.things, r, self._forget)
            case Chain() | IpSet():
                for rule in self.things.values():
                    if isinstance(rule, Rule) and r.key in rule.needs:
                        raise KernelError(f"{r.key} is in use by {rule}", errno=errno.EBUSY)
            case Link():
                self._forget_link(r.ns, r.name)
                return
            case Netns():
                for key, peer in list(self.peers.items()):
                    if r.path == peer.ns:
                        self._forget_link(HOST, key[2])
                self._forget(lambda x: getattr(x, "ns", HOST) == r.path)
            case NftTable():
                self._forget(lambda x: x.key[0].startswith("nft-") and x.key[1] == r.name)
                return
            case NftChain() | NftSet():
                self._remove_with_contents(r)
                return
        del self.things[r.key]

    def _remove_with_contents(self, r: NftChain | NftSet) -> None:
        """Unless something outside of it refers to it."""

        def inside(x: Resource) -> bool:
            place = ("chain" if isinstance(x, NftRule) else "set") if len(x.key) > 3 else ""
            return x.key[1:3] == r.key[1:3] and r.key[0] == f"nft-{place}"

        for x in self.things.values():
            if x is not r and r.key in x.needs and not inside(x):
                raise KernelError(f"{r.key} is in use by {x}", errno=errno.EBUSY)
        self._forget(lambda x: x.key == r.key or inside(x))

    def _forget_link(self, ns: str, name: str) -> None:
        """Delete a link with its peer, and all that needs either."""
        ends = {(ns, name)}
        if peer := self.peers.pop(("link", ns, name), None):
            ends.add((peer.ns, peer.name))
        self.things.pop(("link", ns, name), None)
        if ns == HOST:
            switches.detach(self.things, name)
        self._forget(lambda r: (getattr(r, "ns", None), getattr(r, "dev", None)) in ends)
        self._forget(
            lambda r: isinstance(r, Sysctl) and any(
                r.ns == at and f"/{dev}/" in r.name for at, dev in ends
            )
        )  # fmt: skip
        self._forget(lambda r: isinstance(r, BridgeRedirect) and (r.ns, r.bridge) == (ns, name))
        links = [r for r in self.things.values() if isinstance(r, Link)]
        for r in links:
            if ns == HOST and r.parent == name:
                self._forget_link(r.ns, r.name)
        freed = {r.key: r for r in links if (r.ns, r.master) == (ns, name)}
        for key, r in freed.items():
            self.things[key] = replace(r, **_port(replace(r, master=None)), master=None)
        self._forget(lambda f: isinstance(f, Fdb) and ("link", f.ns, f.dev) in freed)

    def _forget(self, which: Callable[[Resource], bool]) -> None:
        for key in [k for k, r in self.things.items() if which(r)]:
            del self.things[key]


def _port(r: Link) -> dict[str, Any]:
    """The flags that a bridge port has, those of a new one where it is not said."""
    if not r.master:
        return dict.fromkeys(PORT_FLAGS)
    return {
        name: on if (on := getattr(r, name)) is not None else name in SET_AT_FIRST
        for name in PORT_FLAGS
    }


@contextmanager
def _expected() -> Iterator[None]:
    """As the worker: what is no NetkitError becomes one."""
    try:
        yield
    except NetkitError:
        raise
    except Exception as error:
        raise unexpected(error) from error


class Inline:
    """A Converger without threads of its own."""

    def __init__(self, kernel: FakeKernel, engine: str) -> None:
        self.kernel = kernel
        self.mine = ownership(engine, NETNS)
        self.plans: list[Plan] = []
        self._lock = threading.Lock()

    def converge(self, change: Change) -> Plan:
        with self._lock:
            with _expected():
                plan = converge(change, self.kernel, self.mine)
            self.plans.append(plan)
            return plan

    def converge_lazily(self, change: Callable[[], Change], *, dry: bool = False) -> Plan:
        with self._lock, _expected():
            now = change()
            if dry:
                seen = fill_unobservable(self.kernel.observe(now.scope), now.known)
                return diff(now.desired, seen, self.mine)
            return converge(now, self.kernel, self.mine)

    def observe(self, keys: Iterable[Key]) -> State:
        return self.kernel.observe(keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        return self.kernel.owned(prefix, policy=policy)
