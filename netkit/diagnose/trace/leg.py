"""One host's part of a way: an engine's request and its answer.  Values, fit for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal, NamedTuple

from netkit.diagnose.explain.packet import Ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The ends of a packet; a port not chosen yet is a wide span."""

    src: str
    dst: str
    sport: tuple[int, int]
    dport: tuple[int, int]

    @classmethod
    def of(cls, e: Ends) -> Line:
        return cls(src=str(e.src), dst=str(e.dst), sport=e.sport, dport=e.dport)

    @property
    def ends(self) -> Ends:
        src, dst = IPv4Address(self.src), IPv4Address(self.dst)
        return Ends(src=src, dst=dst, sport=self.sport, dport=self.dport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One hop, or one thing that decides about it.  `host` is filled in by the client."""

    where: str  # container web, the host
    what: str  # route, link, bridge, rule, switch, tunnel, socket ...
    why: str
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    kind: str
    remote: str
    local: str  # as the far end sees us
    key: int
    option: int = 0  # of Geneve, as OVN sends it
    # Of an overlay's process: ids of the hosts that send and receive, and the latter's name.
    sender: str = ""
    receiver: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How a packet left a host.  By several tunnels if the switch floods."""

    dev: str
    near: str  # the next hop's address
    mac_src: str = ""
    mac_dst: str = ""  # "": not known here
    tunnels: tuple[Tunnel, ...] = ()  # none: by a wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossed:
    """What connection tracking of a namespace knows afterwards."""

    space: str
    original: Line
    sent: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The first leg has `source` and `target`, and `address` where the engine does not know the
    target; one that goes on `came` and `ends`; the answer begins in `space` with `ends`."""

    proto: str
    port: int = 0
    source: str = ""
    target: str = ""
    address: str = ""
    own: tuple[str, ...] = ()  # addresses that the source sends from, where they were asked for
    ends: Line | None = None
    came: Left | None = None
    space: str = ""
    answer: bool = False
    refused: bool = False  # the answer is a refusal: no process listens
    size: int = 0  # bytes of the packet, which must not be cut; 0: it fits everywhere
    flows: tuple[Crossed, ...] = ()


class Doubt(NamedTuple):
    """What is not known for sure: a code, and words."""

    code: str
    words: str


class Cause(NamedTuple):
    """Why a packet goes elsewhere or comes with other addresses, and what changes that."""

    words: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """`elsewhere`: what comes in `Ask.came` does not come to this host."""

    end: Literal["arrived", "left", "stopped", "elsewhere"]
    code: str = ""
    words: str = ""
    fix: str = ""
    steps: tuple[Step, ...] = ()
    origin: str = ""  # the namespace of the sender; "" for a host outside
    space: str = ""  # where it arrived
    name: str = ""
    taken: bool = True  # a process listens
    sent: Line | None = None  # of a first leg: as it was sent
    ends: Line | None = None  # as it is at the end
    flows: tuple[Crossed, ...] = ()
    left: Left | None = None
    away: str = ""  # why a packet for a published port does not go to its container
    cure: str = ""  # what changes that
    doubts: tuple[Doubt, ...] = ()


class Stop(Exception):
    """The way ends here, with a reason code."""

    def __init__(self, code: str, words: str, fix: str = "") -> None:
        super().__init__(words)
        self.code, self.words, self.fix = code, words, fix


class Elsewhere(Exception):
    """A packet that left another host does not come here."""
