"""A packet at one point of its way, with its connection tracking state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Literal

Span = tuple[int, int]  # first, last: what is known of a number
State = Literal["new", "established", "related", "untracked", "invalid"]
EPHEMERAL: Span = (32768, 60999)  # net.ipv4.ip_local_port_range, as the kernel comes
SYN, ACK = 0x02, 0x10  # bits of the TCP header
ECHO_REQUEST, ECHO_REPLY = 8, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The addresses and ports of a packet; a port not chosen yet is a wide span."""

    src: IPv4Address
    dst: IPv4Address
    sport: Span = EPHEMERAL
    dport: Span = (0, 0)

    @property
    def turned(self) -> Ends:
        return Ends(src=self.dst, dst=self.src, sport=self.dport, dport=self.sport)

    def answers(self, sent: Ends) -> bool:
        """Whether the sender of `sent` takes this for its answer; its own port is not compared."""
        mine, wanted = (self.src, self.sport, self.dst), (sent.dst, sent.dport, sent.src)
        return mine == wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A connection: its first packet as it came, and as it left after translation."""

    original: Ends
    sent: Ends
    state: State = "new"
    answer: bool = False  # the packet goes the other way
    bound: frozenset[str] = frozenset()  # ends a nat rule decided about: "src", "dst"
    settled: bool = False  # translation was decided before the packet came through lo

    @property
    def dnat(self) -> bool:
        a, b = self.original, self.sent
        return (a.dst, a.dport) != (b.dst, b.dport)

    @property
    def snat(self) -> bool:
        a, b = self.original, self.sent
        return (a.src, a.sport) != (b.src, b.sport)

    @property
    def fresh(self) -> bool:
        """Translation is decided with the first packet of a flow only."""
        return self.state == "new" and not self.answer and not self.settled

    @property
    def words(self) -> frozenset[str]:
        """What `ct state` and `ct status` may be asked for."""
        out = {str(self.state)}
        if self.dnat:
            out.add("dnat")
        if self.snat:
            out.add("snat")
        if self.answer:
            out |= {"seen-reply", "confirmed"}
        return frozenset(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """`iif` and `oif` are empty where a packet has no such interface (yet)."""

    ends: Ends
    flow: Flow
    proto: str  # tcp, udp, sctp, icmp
    iif: str = ""
    oif: str = ""
    port: str = ""  # the bridge port it came by
    mac: str = ""  # from which it came there; "" is not known
    mark: int = 0

    def to(self, dst: IPv4Address, dport: Span) -> Packet:
        return self._now(replace(self.ends, dst=dst, dport=dport))

    def of(self, src: IPv4Address, sport: Span) -> Packet:
        return self._now(replace(self.ends, src=src, sport=sport))

    def bind(self, end: str) -> Packet:
        """A nat rule decided about this end, be it to leave it as it is (nf_nat_initialized)."""
        return replace(self, flow=replace(self.flow, bound=self.flow.bound | {end}))

    def _now(self, new: Ends) -> Packet:
        """With other addresses or ports: a translation, noted in the flow of a first packet."""
        flow = replace(self.flow, sent=new) if self.flow.fresh else self.flow
        return replace(self, ends=new, flow=flow)

    @property
    def flags(self) -> int:
        return SYN | ACK if self.flow.answer else SYN

    @property
    def answered(self) -> Packet:
        """Return the receiver's reply, before any translation."""
        flow = replace(self.flow, sent=self.ends, state="established", answer=True)
        return Packet(ends=self.ends.turned, flow=flow, proto=self.proto)


def first(ends: Ends, proto: str) -> Packet:
    return Packet(ends=ends, flow=Flow(original=ends, sent=ends), proto=proto)
