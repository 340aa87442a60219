"""Prefixes of addresses, and values by the longest prefix that contains an address."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Generic, NamedTuple, TypeVar

from plugins.weave.wire import WireError

BITS = {4: 32, 6: 128}


class Prefix(NamedTuple):
    """`length` leading bits of `first`, whose other bits are zero; `family` is 4 or 6."""

    family: int
    first: int
    length: int

    @property
    def last(self) -> int:
        return self.first + self.size - 1

    @property
    def size(self) -> int:
        return 1 << BITS[self.family] - self.length

    def contains(self, other: Prefix) -> bool:
        return (
            self.family == other.family
            and self.length <= other.length
            and self.first <= other.first <= self.last
        )

    def overlaps(self, other: Prefix) -> bool:
        return self.contains(other) or other.contains(self)

    @property
    def hosts(self) -> tuple[int, int]:
        """The first and last address that may be given out: not the subnet's own (RFC 4291, 2.6.1,
        for IPv6), nor IPv4's broadcast address.  Of a /31 (RFC 3021), /32, /127 and /128: all."""
        if self.length >= BITS[self.family] - 1:
            return self.first, self.last
        return self.first + 1, self.last - (self.family == 4)

    def encode(self) -> bytes:
        """The address and the length: 5 or 17 bytes."""
        return self.first.to_bytes(BITS[self.family] // 8, "big") + bytes((self.length,))

    def __str__(self) -> str:
        return f"{text(self.family, self.first)}/{self.length}"


class Place(NamedTuple):
    """A subnet of a network; the network's id is the same on all hosts that have it."""

    network: bytes
    prefix: Prefix


def text(family: int, address: int) -> str:
    return str(ip_address(address.to_bytes(BITS[family] // 8, "big")))


def parse(written: str) -> Prefix:
    """ "10.32.0.0/12".  ValueError: it is none, or has bits beyond its length."""
    network = ip_network(written)
    return Prefix(network.version, int(network.network_address), network.prefixlen)


def decode(data: bytes) -> Prefix:
    """What `Prefix.encode` made; WireError otherwise."""
    family = {5: 4, 17: 6}.get(len(data), 0)
    first, length = int.from_bytes(data[:-1], "big"), data[-1] if data else 0
    if not family or length > BITS[family] or first & ((1 << BITS[family] - length) - 1):
        raise WireError(f"no prefix: {data.hex()}")
    return Prefix(family, first, length)


def single(family: int, address: int) -> Prefix:
    return Prefix(family, address, BITS[family])


def of(packed: bytes) -> Prefix:
    """The address whose 4 or 16 bytes these are."""
    return single(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big"))


def cover(family: int, first: int, last: int) -> Iterator[Prefix]:
    """The prefixes that make up first..last, in order, as few as possible."""
    bits = BITS[family]
    while first <= last:
        host = min((first & -first).bit_length() - 1 if first else bits, bits)
        host = min(host, (last - first + 1).bit_length() - 1)
        yield Prefix(family, first, bits - host)
        first += 1 << host


V = TypeVar("V")


class PrefixMap(Generic[V]):
    """Values by prefix, all of one family; the longest prefix that contains an address counts."""

    def __init__(self) -> None:
        self._values: dict[Prefix, V] = {}
        self._sorted: list[Prefix] = []  # outer ones before what they contain
        self._lengths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._sorted)

    def items(self) -> Iterator[tuple[Prefix, V]]:
        return ((prefix, self._values[prefix]) for prefix in self._sorted)

    def set(self, prefix: Prefix, value: V) -> None:
        if prefix not in self._values:
            insort(self._sorted, prefix)
            self._lengths[prefix.length] += 1
        self._values[prefix] = value

    def remove(self, prefix: Prefix) -> None:
        del self._values[prefix]
        del self._sorted[bisect_left(self._sorted, prefix)]
        self._lengths[prefix.length] -= 1

    def inside(self, prefix: Prefix) -> list[Prefix]:
        """Those that `prefix` contains, itself not among them."""
        start = bisect_left(self._sorted, prefix)
        end = bisect_left(self._sorted, Prefix(prefix.family, prefix.last + 1, 0))
        return [
            each for each in self._sorted[start:end] if each != prefix and prefix.contains(each)
        ]

    def covering(self, prefix: Prefix) -> tuple[Prefix, V] | None:
        """The longest that contains `prefix`, itself perhaps."""
        bits = BITS[prefix.family]
        for length in range(prefix.length, -1, -1):
            if not self._lengths[length]:
                continue
            first = prefix.first >> bits - length << bits - length
            candidate = Prefix(prefix.family, first, length)
            if candidate in self._values:
                return candidate, self._values[candidate]
        return None

    def pieces(self) -> Iterator[tuple[int, int, V]]:
        """(first, last, value) of each run of addresses, in order, without overlaps."""
        stack: list[Prefix] = []
        at = 0
        for prefix in [*self._sorted, None]:
            while stack and (prefix is None or stack[-1].last < prefix.first):
                outer = stack.pop()
                if at <= outer.last:
                    yield at, outer.last, self._values[outer]
                    at = outer.last + 1
            if prefix is None:
                return
            if stack and at < prefix.first:
                yield at, prefix.first - 1, self._values[stack[-1]]
            at = prefix.first
            stack.append(prefix)
