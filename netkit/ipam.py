"""Which subnets networks get, and which addresses endpoints get.

The choices are pure functions; `Addresses` keeps what was given in SQLite, whose primary key on
(network, address) arbitrates between threads.  Rules and messages are Docker's.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Network,
    IPv6Network,
    ip_address,
    ip_network,
)
from itertools import accumulate
from typing import TYPE_CHECKING

from netkit.driver import ROUTER, Subnet
from netkit.errors import Conflict, Forbidden, InUse, InvalidSpec, NotSupported
from netkit.model import IPAddress, IPNetwork

if TYPE_CHECKING:
    from netkit.spec import SubnetSpec
    from netkit.store import Database


@dataclass(frozen=True, slots=True)
class Pool:
    """A range to cut networks of one prefix length from."""

    base: IPv4Network
    size: int  # prefix length of each network


DEFAULT_POOLS = (
    *(Pool(IPv4Network(f"172.{n}.0.0/16"), 16) for n in (17, 18, 19)),
    *(Pool(IPv4Network(f"172.{n}.0.0/14"), 16) for n in (20, 24, 28)),
    Pool(IPv4Network("192.168.0.0/16"), 20),
)


def parse_pool(base: str, size: int) -> Pool:
    """`--default-address-pool base=,size=`; InvalidSpec says what is wrong with it."""
    try:
        network = ip_network(base)
    except ValueError as bad:
        raise InvalidSpec(f"invalid base pool {base!r}: {bad}") from None
    if isinstance(network, IPv6Network):
        raise NotSupported(f"IPv6 is not supported yet: leave out the address pool {base}")
    if not network.prefixlen <= size <= 30:
        raise InvalidSpec(f"invalid pool size {size} for {base}: {network.prefixlen} to 30")
    return Pool(network, size)


def choose(
    pools: Sequence[Pool],
    taken: Sequence[IPNetwork],
    size: int | None = None,
    *,
    last: bool = False,
) -> IPv4Network:
    """The first network of the pools, in order, that overlaps nothing in `taken`; or the `last`."""
    busy = sorted(_ends(t) for t in taken if isinstance(t, IPv4Network))
    begins = [begin for begin, _ in busy]
    ends = list(accumulate((end for _, end in busy), max))  # the farthest up to each
    for first, length in _candidates(pools, size, last):
        before = bisect_right(begins, first + (1 << 32 - length) - 1)
        if not before or ends[before - 1] < first:
            return IPv4Network((first, length))
    raise Conflict(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to "
        "assign to the network: remove unused networks, give --subnet, or add address pools"
    )


def _ends(network: IPv4Network) -> tuple[int, int]:
    first = int(network.network_address)
    return first, first + network.num_addresses - 1


def _candidates(pools: Sequence[Pool], size: int | None, last: bool) -> Iterator[tuple[int, int]]:
    """First addresses, with the length of their prefixes."""
    for pool in reversed(pools) if last else pools:
        length = pool.size if size is None else size
        if length >= pool.base.prefixlen:
            first, step = int(pool.base.network_address), 1 << 32 - length
            starts = range(first, first + pool.base.num_addresses, step)
            for start in reversed(starts) if last else starts:
                yield start, length


def wants_any(spec: SubnetSpec) -> int | None:
    """The prefix length, where "0.0.0.0/24" asks for any subnet of that size."""
    address, _, length = spec.subnet.partition("/")
    if address == "0.0.0.0" and length.isdigit() and 0 < int(length) <= 32:
        return int(length)
    return None


def parse_subnets(specs: Iterable[SubnetSpec]) -> tuple[Subnet, ...]:
    """What the user wrote, checked; all problems in one InvalidSpec, in Docker's words."""
    problems: list[str] = []
    subnets = [s for spec in specs if (s := _parse(spec, problems)) is not None]
    for i, one in enumerate(subnets):
        for other in subnets[:i]:
            if one.cidr.overlaps(other.cidr):
                problems.append(f"invalid subnet {one.cidr}: it overlaps with {other.cidr}")
    if problems:
        raise InvalidSpec("invalid network config:\n" + "\n".join(problems))
    return tuple(subnets)


def _parse(spec: SubnetSpec, problems: list[str]) -> Subnet | None:
    cidr = _network("subnet", spec.subnet, problems)
    if cidr is None:
        return None
    span = _network("ip-range", spec.ip_range, problems) if spec.ip_range else None
    if span is not None and not _within(span, cidr):
        problems.append(f"invalid ip-range {span}: parent subnet {cidr} doesn't contain ip-range")
    gateway = _address("gateway", spec.gateway, cidr, problems) if spec.gateway else None
    aux = [
        (name, _address("auxiliary address", text, cidr, problems))
        for name, text in sorted(spec.aux.items())
    ]
    return Subnet(
        cidr=cidr,
        gateway=gateway,
        ip_range=span,
        aux=tuple((name, a) for name, a in aux if a is not None),
    )


def _network(what: str, text: str, problems: list[str]) -> IPNetwork | None:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        network = None
    if network is None or "/" not in text:
        problems.append(f"invalid {what} {text}: invalid CIDR block notation")
        return None
    if isinstance(network, IPv6Network):
        raise NotSupported(f"IPv6 is not supported yet: leave out {what} {text}")
    if ip_address(text.split("/", maxsplit=1)[0]) != network.network_address:
        problems.append(f"invalid {what} {text}: it should be {network}")
        return None
    return network


def _address(what: str, text: str, cidr: IPNetwork, problems: list[str]) -> IPAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        problems.append(f"invalid {what} {text}: invalid address")
        return None
    if address not in cidr:
        problems.append(
            f"invalid {what} {text}: parent subnet {cidr} doesn't contain this address"
        )
    elif address in (cidr[0], cidr[-1]) and cidr.num_addresses > 2:
        problems.append(f"invalid {what} {text}: it is the network or broadcast address of {cidr}")
    return address


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.version == outer.version and (
        inner.network_address in outer and inner.broadcast_address in outer
    )


class Overlaps(Forbidden):
    """403, as Docker has it."""


def refuse_overlap(wanted: IPNetwork, taken: Iterable[tuple[IPNetwork, str]]) -> None:
    """Overlaps if another network has some of these addresses."""
    for cidr, name in taken:
        if cidr.version == wanted.version and wanted.overlaps(cidr):
            raise Overlaps(
                "invalid pool request: Pool overlaps with other one on this address space: "
                f"{wanted} and {cidr} of network {name}"
            )


def span(subnet: Subnet) -> tuple[int, int]:
    """First and last address given out by itself, as numbers.

    A network and broadcast address exist where there are more than two (RFC 3021 for /31).
    """
    low, high = int(subnet.cidr[0]), int(subnet.cidr[-1])
    if subnet.cidr.num_addresses > 2:
        low, high = low + 1, high - 1
    if subnet.ip_range is not None:
        low = max(low, int(subnet.ip_range[0]))
        high = min(high, int(subnet.ip_range[-1]))
    return low, high


class Addresses:
    """Who holds which address.  A `lease` ends with its sandbox's life, the rest is configured."""

    TABLES = (
        """
        CREATE TABLE pools (cidr TEXT PRIMARY KEY,
            network TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE) WITHOUT ROWID;
        CREATE TABLE addresses (network TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE,
            address BLOB NOT NULL, kind TEXT NOT NULL, holder TEXT NOT NULL,
            PRIMARY KEY (network, address)) WITHOUT ROWID;
        CREATE INDEX addresses_holder ON addresses (holder)
        """,
    )
    CHUNK = 64  # rows looked at in one go when searching for a gap

    def __init__(self, database: Database) -> None:
        self._db = database
        self._db.ensure("ipam", self.TABLES)
        # (network, first address) to (low, taken): nothing below low is free.  Where low was
        # taken, that holds only if it still is: a transaction may have been rolled back.
        self._low: dict[tuple[str, int], tuple[int, bool]] = {}

    def pools(self) -> list[tuple[IPNetwork, str]]:
        """Every subnet in use, with its network's name."""
        rows = self._db.rows(
            "SELECT cidr, name FROM pools JOIN networks ON networks.id = pools.network"
        )
        return [(ip_network(r["cidr"]), r["name"]) for r in rows]

    def add_subnet(self, network: str, subnet: Subnet) -> None:
        """Note a network's subnet with what is reserved in it."""
        self._db.execute("INSERT INTO pools VALUES (?, ?)", (str(subnet.cidr), network))
        if subnet.gateway is not None:
            self.claim(network, subnet.gateway, "gateway", network)
        for name, address in subnet.aux:
            if address != subnet.gateway:
                kind = "aux" if name != ROUTER else "gateway"
                self.claim(network, address, kind, network)

    def take(self, network: str, subnet: Subnet, holder: str, name: str) -> IPAddress:
        """The lowest free address, as a lease.  Conflict when there is none."""
        first, last = span(subnet)
        with self._db.transaction():
            start = self._start(network, subnet.cidr, first)
            for low in dict.fromkeys((start, first)):
                free = self._gap(network, subnet.cidr, low, last)
                if free is not None:
                    self.claim(network, free, "lease", holder)
                    self._low[network, first] = (int(free), True)
                    return free
        raise Conflict(
            f"no available IPv4 addresses on this network's address pools: {name} ({network[:12]})"
        )

    def _start(self, network: str, cidr: IPNetwork, first: int) -> int:
        low, taken = self._low.get((network, first), (first, False))
        address = cidr.network_address + (low - int(cidr.network_address))
        return low if not taken or self._holder(network, address) else first

    def _gap(self, network: str, cidr: IPNetwork, start: int, last: int) -> IPAddress | None:
        base, origin = cidr.network_address, int(cidr.network_address)
        at = start
        while at <= last:
            rows = self._db.rows(
                "SELECT address FROM addresses WHERE network=? AND address>=? "
                "ORDER BY address LIMIT ?",
                (network, (base + (at - origin)).packed, self.CHUNK),
            )
            for row in rows:
                if int.from_bytes(row["address"], "big") != at:
                    break
                at += 1
            else:
                if len(rows) == self.CHUNK:
                    continue
            return base + (at - origin) if at <= last else None
        return None

    def claim(self, network: str, address: IPAddress, kind: str, holder: str) -> None:
        """Hold exactly this address.  Fine if `holder` has it already, else InUse."""
        try:
            self._db.execute(
                "INSERT INTO addresses VALUES (?, ?, ?, ?)",
                (network, address.packed, kind, holder),
            )
        except sqlite3.IntegrityError:
            row = self._holder(network, address)
            if row is None or row["holder"] != holder:
                who = row["kind"] if row else "another"
                who = "a container" if who in {"lease", "static"} else f"the network ({who})"
                raise InUse(f"Address already in use: {address} is held by {who}") from None
            if kind == "static":
                self._db.execute(
                    "UPDATE addresses SET kind='static' WHERE network=? AND address=?",
                    (network, address.packed),
                )

    def _holder(self, network: str, address: IPAddress) -> sqlite3.Row | None:
        rows = self._db.rows(
            "SELECT kind, holder FROM addresses WHERE network=? AND address=?",
            (network, address.packed),
        )
        return rows[0] if rows else None

    def release(self, holder: str, *, network: str | None = None, kind: str = "lease") -> None:
        """Give back what `holder` has, of one kind, on one network or on all."""
        where = "holder=? AND kind=?" + (" AND network=?" if network else "")
        args = (holder, kind, network) if network else (holder, kind)
        freed = self._db.rows(
            f"DELETE FROM addresses WHERE {where} RETURNING network, address", args
        )
        for row in freed:
            at = int.from_bytes(row["address"], "big")
            for hint, (low, _) in self._low.items():
                if hint[0] == row["network"] and hint[1] <= at <= low:
                    self._low[hint] = (at, False)

    def used(self, network: str) -> int:
        """How many addresses are held on a network, reserved ones included."""
        rows = self._db.rows("SELECT count(*) AS n FROM addresses WHERE network=?", (network,))
        return int(rows[0]["n"])
