"""Every combination of what a network and a container can ask of a firewall, and its golden file.

A golden file lists every line a back end ever renders, and for which combinations:

    filter DOCKER
        mode=nat,routed ports=one       -d 172.18.0.2/32 ! -i br0 ... -j ACCEPT

An option that a condition does not name makes no difference to that line, and the test holds the
back end to that.  A back end joins with a `Backend`; its file is written, or written again, by

    NETKIT_UPDATE_GOLDEN=1 pytest tests/unit/plugins/firewall/test_golden.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from itertools import groupby, product
from pathlib import Path
from typing import cast

from netkit.driver import Access, Firewall, Mode, PortMapping, TrafficPolicy
from netkit.model import Chain, Resource, Rule, Sysctl
from netkit.model.ipset import IpSet
from plugins.firewall.iptables import Iptables
from tests.places import ROOT
from tests.unit.plugins.firewall.firewall_values import EP, NET

GOLDEN = ROOT / "tests" / "golden" / "firewall"
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "mode": ("nat", "nat-unprotected", "routed", "internal", "isolated"),
    "ports": ("none", "one", "range", "shifted", "loopback"),
    "icc": ("on", "off"),
    "link": ("none", "to-80"),
    "access": ("none", "drop", "accept"),
    "masq": ("on", "off"),
    "source": ("none", "192.0.2.7"),
    "trusted": ("none", "eth1"),
}
Case = tuple[str, ...]  # a value for each of OPTIONS
CASES: tuple[Case, ...] = tuple(product(*OPTIONS.values()))

PORTS = {
    "none": [],
    "one": [(8080, 80, "0.0.0.0")],
    "range": [(p, p, "0.0.0.0") for p in range(9000, 9010)],
    "shifted": [(p, p - 8000, "192.0.2.1") for p in range(9000, 9010)],
    "loopback": [(9090, 90, "127.0.0.1")],
}
LINK = Access(
    id="1" * 12, verdict="accept", sources=(IPv4Network("172.18.0.9/32"),),
    proto="tcp", first=80, last=80, link=True, mac="02:42:ac:12:00:09",
)  # fmt: skip
ACCESS = {
    "none": [],
    "drop": [
        Access(id="2" * 12, verdict="drop", sources=(IPv4Network("198.51.100.0/24"),), priority=1),
        Access(
            id="3" * 12, verdict="drop", sources=(IPv4Network("0.0.0.0/0"),), priority=2,
            proto="tcp", first=8080, last=8089, published=True,
        ),
    ],
    "accept": [
        Access(
            id="4" * 12, verdict="accept", sources=(IPv4Network("203.0.113.5/32"),), priority=1,
            proto="udp", first=53, last=53,
        )
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a rule set: where it stands, how far from the top, what it says."""

    place: str
    rank: int
    text: str


@dataclass(frozen=True)
class Backend:
    name: str
    firewall: Firewall
    spell: Callable[[Resource], Line]

    @property
    def file(self) -> Path:
        return GOLDEN / f"{self.name}.txt"

    @cache  # noqa: B019  there are a few back ends, for ever
    def rendered(self, case: Case) -> frozenset[Line]:
        """Return all lines for one network and one container on it, without `setup`."""
        policy, ports, access = asked(case)
        made = (
            *self.firewall.network(NET, policy),
            *self.firewall.endpoint(NET, policy, EP, ports, access),
        )
        return frozenset(map(self.spell, made))


def asked(case: Case) -> tuple[TrafficPolicy, list[PortMapping], list[Access]]:
    want = dict(zip(OPTIONS, case, strict=True))
    policy = TrafficPolicy(
        link="br0",
        mode=cast(Mode, want["mode"]),
        icc=want["icc"] == "on",
        masquerade=want["masq"] == "on",
        source=None if want["source"] == "none" else IPv4Address(want["source"]),
        trusted=() if want["trusted"] == "none" else (want["trusted"],),
    )
    ports = [
        PortMapping(proto="tcp", container_port=inside, host_ip=ip, host_port=host)
        for host, inside, ip in PORTS[want["ports"]]
    ]
    return policy, ports, [*ACCESS[want["access"]], *([LINK] if want["link"] != "none" else [])]


def iptables_line(r: Resource) -> Line:
    match r:
        case Rule():
            return Line(f"{r.table} {r.chain}", r.rank, " ".join(r.args))
        case Chain():
            return Line(f"{r.table} {r.name}", 0, "(chain)")
        case IpSet():
            return Line("sets", 0, f"{r.name}: {' '.join(map(str, r.members))}")
        case Sysctl():
            return Line("settings", 0, f"{r.name} = {r.value}")
    raise AssertionError(f"how is {r} written?")


BACKENDS = [Backend("iptables", Iptables(), iptables_line)]


# -- golden files ------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """The allowed values of the options that a condition names."""

    allowed: tuple[tuple[str, tuple[str, ...]], ...]

    def holds(self, case: Case) -> bool:
        have = dict(zip(OPTIONS, case, strict=True))
        return all(have[name] in values for name, values in self.allowed)

    def __str__(self) -> str:
        return " ".join(f"{name}={','.join(values)}" for name, values in self.allowed) or "always"

    @classmethod
    def parse(cls, text: str) -> Condition:
        parts = [] if text == "always" else [part.partition("=") for part in text.split(" ")]
        return cls(tuple((name, tuple(values.split(","))) for name, _, values in parts))


def conditions(cases: frozenset[Case]) -> list[Condition]:
    """A few conditions of which exactly one holds for each of `cases`, and none for other cases."""
    return [Condition(c) for c in _conditions([*OPTIONS.items()], cases)]


def _conditions(
    options: Sequence[tuple[str, tuple[str, ...]]], cases: Iterable[Case]
) -> list[tuple[tuple[str, tuple[str, ...]], ...]]:
    if not options:
        return [()]
    (name, values), *rest = options
    alike: dict[frozenset[Case], list[str]] = {}
    for value in values:
        below = frozenset(case[1:] for case in cases if case[0] == value)
        if below:
            alike.setdefault(below, []).append(value)
    out: list[tuple[tuple[str, tuple[str, ...]], ...]] = []
    for below, same in alike.items():
        mine = () if len(same) == len(values) else ((name, tuple(same)),)
        out += [(*mine, *more) for more in _conditions(rest, below)]
    return out


def written(backend: Backend) -> str:
    """The golden file of a back end as it renders now."""
    seen: dict[Line, list[Case]] = {}
    for case in CASES:
        for line in backend.rendered(case):
            seen.setdefault(line, []).append(case)
    where = "tests/unit/plugins/firewall/firewall_matrix.py"
    out = [f"# {backend.name}: what is rendered when; see {where}"]
    ordered = sorted(seen, key=lambda line: (line.place, line.rank, line.text))
    for place, lines in groupby(ordered, key=lambda line: line.place):
        out += ["", place]
        for line in lines:
            for condition in conditions(frozenset(seen[line])):
                out.append(f"    {condition!s:<58}  {line.rank:>3}  {line.text}")
    return "\n".join(out) + "\n"


def expected(backend: Backend) -> list[tuple[Condition, Line]]:
    """What the golden file says."""
    out: list[tuple[Condition, Line]] = []
    place = ""
    for row in backend.file.read_text().splitlines():
        if row.startswith("#") or not row:
            continue
        if not row.startswith(" "):
            place = row
            continue
        condition, rest = row.strip().split("  ", 1)
        rank, text = rest.split(maxsplit=1)
        out.append((Condition.parse(condition), Line(place, int(rank), text)))
    return out
