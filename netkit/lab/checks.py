"""Parse check lines, and expand them to pairs.  Pure.

    SOURCE ->|<-> TARGET [PROTOCOL[/PORT]] OUTCOME

    web -> db tcp/80 ok          all <-> all icmp ok        outside -> h1:8080 ok
    guest -> db blocked          one,two -> web@lane ok     outside -> 203.0.113.9 unrouted

Names are hosts, containers, `all` (every container), `hosts` (every host), patterns with `*` and
ranges as `h[1-50]`; each of the sources is paired with each of the targets.
`:PORT` is a port of a host, tcp by default.  `@` names the network or the
interface whose address is meant.  Without a protocol `icmp` is asked, and for `blocked` also
every TCP port that the target listens on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import ip_address

from netkit.lab.ranges import spread
from netkit.suggestion import hint

MAX_PAIRS = 100_000  # of all checks of a lab
OUTCOMES = ("ok", "blocked", "open", "closed", "filtered", "unrouted")
PROTOCOLS = ("icmp", "tcp", "udp")
NEGATIVE = frozenset({"blocked", "filtered", "unrouted"})
_LINE = re.compile(
    r"(?P<source>\S+)\s+(?P<arrow><?->)\s+(?P<target>\S+)(?:\s+(?P<service>[a-z]+(?:/\d+)?))??"
    r"\s+(?P<outcome>[a-z]+)"
)
_COMMA = re.compile(r",(?![^\[]*\])")  # not those within a range
_TARGET = re.compile(r"(?P<name>[^:@]+)(?:@(?P<where>[^:@]+))?(?::(?P<port>\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line, or one pair of it once `expanded`."""

    source: str
    target: str
    where: str = ""  # network or interface of the target
    proto: str = ""  # icmp, tcp, udp; "" is all that the target offers
    port: int = 0
    outcome: str = "ok"
    both: bool = False  # the same must hold the other way round

    @property
    def negative(self) -> bool:
        return self.outcome in NEGATIVE

    @property
    def service(self) -> str:
        return f"{self.proto}/{self.port}" if self.port else self.proto

    def __str__(self) -> str:
        where = f"@{self.where}" if self.where else ""
        arrow = "<->" if self.both else "->"
        words = (self.source, arrow, f"{self.target}{where}", self.service, self.outcome)
        return " ".join(word for word in words if word)


def parse(line: str) -> Check:
    """Parse a check; ValueError has the fault and the right form."""
    found = _LINE.fullmatch(line.strip())
    if not found:
        raise ValueError(f"{line!r} is no check: write `web -> db tcp/80 ok`")
    target = _TARGET.fullmatch(found["target"])
    if not target:
        raise ValueError(f"{found['target']!r} is no target: write db, db@lane, h1:8080")
    proto, _, number = (found["service"] or "").partition("/")
    outcome = found["outcome"]
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome!r}{_near(outcome, OUTCOMES)}")
    if proto and proto not in PROTOCOLS:
        raise ValueError(f"unknown protocol {proto!r}{_near(proto, PROTOCOLS)}")
    if target["port"] and number:
        raise ValueError(f"{line!r} names two ports: leave one out")
    if target["port"]:
        proto, number = proto or "tcp", target["port"]
    port = int(number or 0)
    if proto in {"tcp", "udp"} and not 0 < port < 65536:
        raise ValueError(f"{line!r}: {proto} needs a port from 1 to 65535, as in {proto}/80")
    if proto == "icmp" and (port or outcome == "closed"):
        raise ValueError(f"{line!r}: icmp has no ports that could be open or closed")
    return Check(
        source=found["source"],
        target=target["name"],
        where=target["where"] or "",
        proto=proto,
        port=port,
        outcome="ok" if outcome == "open" else outcome,
        both=found["arrow"] == "<->",
    )


def expanded(check: Check, containers: Sequence[str], hosts: Sequence[str]) -> list[Check]:
    """One check per pair, none of a name with itself.  ValueError names an unknown one."""
    sources = members(check.source, containers, hosts)
    targets = members(check.target, containers, hosts, addresses=True)
    size = len(sources) * len(targets) * (2 if check.both else 1)
    if size > MAX_PAIRS:
        raise ValueError(f"{check} asks {size} pairs: {MAX_PAIRS} at most, name fewer")
    pairs = [(a, b) for a in sources for b in targets]
    if check.both:
        if any(_is_address(b) for _, b in pairs):
            raise ValueError(f"{check}: an address sends nothing: write ->")
        pairs += [(b, a) for a, b in pairs]
    once = list(dict.fromkeys((a, b) for a, b in pairs if a != b))
    if not once:
        raise ValueError(f"{check}: there is no pair to check")
    return [replace(check, source=a, target=b, both=False) for a, b in once]


def members(
    text: str, containers: Sequence[str], hosts: Sequence[str], *, addresses: bool = False
) -> list[str]:
    """The names that a source or a target stands for."""
    out: list[str] = []
    words = [each for word in _COMMA.split(text) for each in spread(word)]
    for word in words:
        everybody = [*containers, *hosts]
        if word == "all":
            found = list(containers)
        elif word == "hosts":
            found = list(hosts)
        elif addresses and _is_address(word):
            found = [word]
        else:
            found = [name for name in everybody if fnmatchcase(name, word)]
        if not found:
            near = _near(word, everybody)
            raise ValueError(f"no host or container of this lab is called {word!r}{near}")
        out += found
    return out


def _is_address(word: str) -> bool:
    try:
        return ip_address(word).version == 4
    except ValueError:
        return False


def _near(word: str, known: Sequence[str]) -> str:
    return hint(word, known) or f" (there are: {', '.join(known)})"
