"""Make the kernel's entries those of a table: only what differs, many in one send."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address
from typing import Self

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER
from netkit.kernel.netlink import rtnl, tunnels
from netkit.kernel.netlink.codec import Netlink, Request
from netkit.kernel.nftables.senders import SenderCheck
from netkit.model import HOST
from netkit.overlay.fabric.rows import Neighbour, Rows, rows
from netkit.overlay.fabric.table import NetworkTable, Table
from netkit.overlay.fabric.watch import Watch, Watched

PORT = 6784  # UDP, of VXLAN
SHOWN = 20  # problems reported one by one
GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`changed` entries were made, moved or removed; what could not be, is in `problems`.

    `no_fastdp` says why nothing goes by the kernel on this host, "" if that is possible: peers
    whose path is fastdp are then reached by the TAP device, and VXLAN devices are down.
    """

    changed: int = 0
    problems: tuple[str, ...] = ()
    no_fastdp: str = ""


@dataclass(slots=True)
class _Links:
    index: dict[str, int] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    master: dict[str, int] = field(default_factory=dict)  # index of the bridge they are in


@dataclass(frozen=True, slots=True)
class _Step:
    """One request, what it is for, and what is true once it was done."""

    request: Request
    what: str
    then: Callable[[], object]
    forgive: frozenset[int] = frozenset()


class Fabric:
    """Of the namespace at path `home`.  For one thread; `wake` is for others.

    It keeps what it has set, and compares with that; `repair` reads the kernel.  So:

        fabric.apply(table)                      # whenever the table changed
        if fabric.wait(30) or it_is_time: fabric.repair()

    What it has set stays when the process ends: frames go on.  `remove` takes it back.
    KernelError where the namespace or rtnetlink itself fails; all else is in an Outcome.
    """

    def __init__(self, home: str = HOST, *, port: int = PORT) -> None:
        with netns.inside(home):
            self._route, self._filter = Netlink(), _filtering()
        self._check = SenderCheck(home, port)
        self._watch = Watch(home)
        self._table = Table()
        self._links = _Links()
        self._seen: Rows | None = None
        self._senders: set[bytes] | None = None  # in the kernel; None: not known
        self._no_fastdp = ""
        self._problems: list[str] = []
        self._changed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for s in (self._route, self._filter, self._watch):
            if s is not None:
                s.close()

    def apply(self, table: Table) -> Outcome:
        """Make the entries of this table, and remove others that are the overlay's."""
        self._problems, self._changed = [], 0
        if self._seen is None:
            self._watch.discard()  # all is read now
        networks = {net.bridge: net for net in (*self._table.networks, *table.networks)}
        self._table = table
        anew = self._find_links(networks.values())
        for name in (n for net in table.networks for n in _names(net)):
            if name not in self._links.index:
                self._problems.append(f"there is no link {name}")
        wanted, wrong = rows(table, fastdp=True)
        if any(net.vxlan for net in table.networks):
            self._admit(wanted.senders)
        if self._no_fastdp:
            wanted, wrong = rows(table, fastdp=False)
        self._problems += wrong
        if self._seen is None:
            self._seen = self._read(Rows(), networks.values())
        elif anew:
            self._seen = self._read(_without(self._seen, anew), anew)
        index, fastdp = self._links.index, not self._no_fastdp
        self._watch.follow(Watched(
            rows=wanted, index=index, table=table, fastdp=fastdp, apart=self._apart(table)
        ))  # fmt: skip
        if self._no_fastdp:
            self._run(list(self._states(table, up=False)))
        self._run(list(self._additions(wanted, self._seen)))
        if not self._no_fastdp:
            self._run(list(self._states(table, up=True)))
        self._run(list(self._removals(wanted, self._seen)))
        self._expel(wanted.senders)
        return self._outcome()

    def repair(self) -> Outcome:
        """Read what there is, and repair what other tools changed."""
        self._seen = self._senders = None
        self._no_fastdp = ""
        return self.apply(self._table)

    def wait(self, seconds: float) -> bool:
        """Wait until another tool has changed an entry, `wake` is called, or the time is over.

        True in the first case, or where that is not certain: call `repair`.
        """
        return self._watch.wait(seconds)

    @property
    def files(self) -> tuple[int, ...]:
        """Can be read when `wait` has something to look at: for who waits for other things, too."""
        return self._watch.files

    def wake(self) -> None:
        self._watch.wake()

    def remove(self) -> None:
        """Take back all of it.  The rules go last, when no VXLAN device is up."""
        self._seen = None
        emptied = tuple(replace(net, members=()) for net in self._table.networks)
        self.apply(Table(networks=emptied))
        ends = (self._links.index.get(net.vxlan) for net in emptied if net.vxlan)
        self._route.run([rtnl.set_link(index, up=False) for index in ends if index])
        self._table, self._seen, self._senders = Table(), None, None
        if self._filter and self._check.present(self._filter):
            self._check.remove()

    def _outcome(self) -> Outcome:
        more = len(self._problems) - SHOWN
        shown = self._problems[:SHOWN] + ([f"and {more} more"] if more > 0 else [])
        if self._problems:
            self._seen = None  # what is there is not known for sure
        return Outcome(changed=self._changed, problems=tuple(shown), no_fastdp=self._no_fastdp)

    # -- what there is -----------------------------------------------------------

    def _find_links(self, networks: Iterable[NetworkTable]) -> list[NetworkTable]:
        """Look links up by name; return the networks of which one is another than before.

        What was made anew has another index, and no entries.
        """
        found, networks = _Links(), list(networks)
        names = [name for net in networks for name in _names(net)]
        for reply in self._route.run([rtnl.get_link(name) for name in names]):
            for body in reply.messages:
                s = rtnl.seen_link(body)
                found.index[s.name], found.master[s.name] = s.index, s.master
                if not s.up:
                    found.down.add(s.name)
        before, self._links = self._links, found
        return [
            net for net in networks
            if any(before.index.get(n) != found.index.get(n) for n in _names(net))
        ]  # fmt: skip

    def _apart(self, table: Table) -> frozenset[str]:
        """Ports that are not in their bridge."""
        index, master = self._links.index, self._links.master
        return frozenset(
            port for net in table.networks for port in (net.tap, net.vxlan)
            if port in master and master[port] != index.get(net.bridge)
        )  # fmt: skip

    def _read(self, out: Rows, networks: Iterable[NetworkTable]) -> Rows:
        """Add to `out` what the kernel has of these networks."""
        for net in networks:
            for name in (net.tap, net.vxlan):
                if name is None or (index := self._links.index.get(name)) is None:
                    continue
                there = tunnels.port(self._route, index)
                out.places.update(((net.bridge, mac), name) for mac in there.places)
                out.tunnels.update((name, mac, peer) for mac, peer in there.tunnels)
            if (bridge := self._links.index.get(net.bridge)) is not None:
                ours = tunnels.neighbours(self._route, bridge)
                out.neighbours.update(((net.bridge, a), mac) for a, mac in ours.items())
        return out

    # -- who may send ----------------------------------------------------------

    def _admit(self, senders: set[bytes]) -> None:
        """Let these in by VXLAN; where that cannot be checked, none."""
        if self._no_fastdp:
            return  # until the next repair
        if self._filter is None:
            self._no_fastdp = "senders of VXLAN frames cannot be checked: there is no nf_tables"
            return
        try:
            if self._senders is None:
                intact = self._check.intact(self._filter)
                self._senders = self._check.senders(self._filter) if intact else None
            if self._senders is None:
                self._check.make(self._filter, senders)
                self._changed += 1
                self._senders = set(senders)
            self._check.change(self._filter, senders - self._senders, ())
            self._changed += len(senders - self._senders)
            self._senders |= senders
        except KernelError as e:
            self._senders = None
            self._no_fastdp = f"senders of VXLAN frames cannot be checked: {e}"

    def _expel(self, senders: set[bytes]) -> None:
        gone = (self._senders or set()) - senders
        if not gone or self._senders is None or self._filter is None:
            return
        try:
            self._check.change(self._filter, (), gone)
            self._changed += len(gone)
            self._senders -= gone
        except KernelError as e:
            self._senders = None
            self._problems.append(str(e))

    # -- steps -------------------------------------------------------------------

    def _run(self, steps: list[_Step]) -> None:
        replies = self._route.run([step.request for step in steps])
        for step, reply in zip(steps, replies, strict=True):
            if reply.errno and reply.errno not in step.forgive:
                self._problems.append(f"{step.what}: {os.strerror(reply.errno)}")
                continue
            step.then()
            self._changed += 1

    def _additions(self, wanted: Rows, seen: Rows) -> Iterator[_Step]:
        """First where tunnels lead, then what is sent into them, then what is asked for."""
        index = self._links.index
        for tunnel in sorted(wanted.tunnels - seen.tunnels):
            name, mac, peer = tunnel
            if name in index:
                request = tunnels.new_tunnel(index[name], mac, IPv4Address(peer))
                what = f"{mac} on {name} to {IPv4Address(peer)}"
                yield _Step(request, what, partial(seen.tunnels.add, tunnel))
        for place, port in wanted.places.items():
            if seen.places.get(place) == port or port not in index:
                continue
            moved = place in seen.places  # else what is there is another's, a container's here
            request = tunnels.new_place(index[port], place[1], replace=moved)
            what = f"{place[1]} behind {port}"
            yield _Step(request, what, partial(seen.places.__setitem__, place, port))
        new = {
            key: mac for key, mac in wanted.neighbours.items()
            if seen.neighbours.get(key) != mac and key[0] in index
        }  # fmt: skip
        taken = self._taken(list(new))
        for key, mac in new.items():
            if key in taken:
                self._problems.append(self._used_twice(*key))
                continue
            request = tunnels.new_neighbour(index[key[0]], IPv4Address(key[1]), mac)
            what = f"{IPv4Address(key[1])} at {mac} on {key[0]}"
            yield _Step(request, what, partial(seen.neighbours.__setitem__, key, mac))

    def _used_twice(self, bridge: str, address: int) -> str:
        network = next((n.name for n in self._table.networks if n.bridge == bridge), "")
        return (
            f"network {network or bridge}: {IPv4Address(address)} is in use on this host and on "
            "another one: what is sent to it from here stays here; give one of the two another "
            "address"
        )

    def _taken(self, keys: list[Neighbour]) -> set[Neighbour]:
        """Those of which another keeps a permanent entry: a container's of this host."""
        asked = [rtnl.get_neigh(self._links.index[bridge], IPv4Address(a)) for bridge, a in keys]
        replies = self._route.run(asked)
        return {
            key for key, reply in zip(keys, replies, strict=True)
            if any(tunnels.is_anothers(body) for body in reply.messages)
        }  # fmt: skip

    def _states(self, table: Table, *, up: bool) -> Iterator[_Step]:
        """VXLAN devices are up where frames are checked, and nowhere else."""
        for name in (net.vxlan for net in table.networks if net.vxlan):
            index = self._links.index.get(name)
            if index is not None and up == (name in self._links.down):
                what = f"set {name} {'up' if up else 'down'}"
                yield _Step(rtnl.set_link(index, up=up), what, str)

    def _removals(self, wanted: Rows, seen: Rows) -> Iterator[_Step]:
        index = self._links.index
        for key in [k for k in seen.neighbours if k not in wanted.neighbours]:
            address = IPv4Address(key[1])
            request = tunnels.del_neighbour(index.get(key[0], 0), address)
            yield _gone(request, f"{address} on {key[0]}", partial(seen.neighbours.pop, key))
        for place in [k for k in seen.places if k not in wanted.places]:
            request = tunnels.del_place(index.get(seen.places[place], 0), place[1])
            what = f"{place[1]} behind {seen.places[place]}"
            yield _gone(request, what, partial(seen.places.pop, place))
        for tunnel in sorted(seen.tunnels - wanted.tunnels):
            name, mac, peer = tunnel
            request = tunnels.del_tunnel(index.get(name, 0), mac, IPv4Address(peer))
            what = f"{mac} on {name} to {IPv4Address(peer)}"
            yield _gone(request, what, partial(seen.tunnels.discard, tunnel))


def _filtering() -> Netlink | None:
    """A socket to nf_tables; None where the kernel has none."""
    try:
        return Netlink(NETLINK_NETFILTER)
    except OSError:
        return None


def _gone(request: Request, what: str, then: Callable[[], object]) -> _Step:
    return _Step(request, f"remove {what}", then, GONE)


def _without(seen: Rows, networks: Iterable[NetworkTable]) -> Rows:
    names = {name for net in networks for name in _names(net)}
    return Rows(
        places={k: port for k, port in seen.places.items() if k[0] not in names},
        tunnels={t for t in seen.tunnels if t[0] not in names},
        neighbours={k: mac for k, mac in seen.neighbours.items() if k[0] not in names},
    )


def _names(net: NetworkTable) -> tuple[str, ...]:
    return (net.bridge, net.tap, net.vxlan) if net.vxlan else (net.bridge, net.tap)
