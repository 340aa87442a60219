"""Join legs of several hosts, there and back, to one verdict.  Pure: engines are a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from netkit.diagnose.choosing import Place, choose, on_network
from netkit.diagnose.explain.grammar import service as read_service
from netkit.diagnose.explain.grammar import spot, without_port
from netkit.diagnose.trace.codes import Verdict, verdict
from netkit.diagnose.trace.facts import HOST
from netkit.diagnose.trace.leg import Ask, Crossed, Doubt, Leg, Line, Step
from netkit.errors import InvalidSpec, NotFound

MOST_LEGS = 12
LARGEST = 65535  # bytes of an IPv4 packet, RFC 791
PROTOCOLS = ("tcp", "udp", "icmp")


class Asked(Protocol):
    """One host's engine."""

    def leg(self, ask: Ask) -> Leg: ...

    def locate(self, name: str) -> Place | None:
        """None: it has no container of that name, and no such address."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    source: str  # a container, host, an address, or ADDRESS@INTERFACE of a host outside
    target: str
    proto: str
    port: int = 0
    size: int = 0  # bytes of the packet, which must not be cut; 0: it fits everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Plain values, fit for JSON.  `leg`: on the way there or back the verdict fell."""

    question: Question
    packet: str  # SRC -> DST PROTO/PORT, as it was sent; "" if none could be
    verdict: Verdict
    code: str
    words: str
    fix: str = ""
    leg: str = "request"
    request: tuple[Step, ...] = ()
    answer: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()


def question(source: str, target: str, service: str = "", size: int = 0) -> Question:
    """Parse as netkit.diagnose.explain.grammar has it; no port is icmp.  Raises InvalidSpec."""
    there = spot(target)
    proto, port = read_service(service or ("" if there.port else "icmp"), there, spot(source))
    if proto not in PROTOCOLS:
        raise InvalidSpec(f"net trace follows tcp, udp and icmp, not {proto}: ask fw explain")
    if not 0 <= size <= LARGEST:
        raise InvalidSpec(f"a packet has 1 to {LARGEST} bytes, not {size}")
    return Question(source=source, target=without_port(target), proto=proto, port=port, size=size)


def trace(engines: Mapping[str, Asked], q: Question) -> Trace:
    """The first of `engines` is asked first.  NotFound for a name that none of them knows."""
    return _Way(engines, q).go()


class _Owned(NamedTuple):
    """The engine to ask first; None: no engine knows the owner, or it is the world."""

    engine: str
    place: Place | None


class _Answered(NamedTuple):
    """A leg, and the engine that followed it."""

    engine: str
    leg: Leg


class _Way:
    def __init__(self, engines: Mapping[str, Asked], q: Question) -> None:
        self.engines, self.q = engines, q
        self.flows: dict[str, tuple[Crossed, ...]] = {}
        self.steps: list[Step] = []
        self.doubts: list[Doubt] = []
        self.packet = self.origin = ""
        self.request: tuple[Step, ...] = ()
        self.sent: Line | None = None
        self.away = self.cure = ""
        self.notes: tuple[str, ...] = ()  # which address was taken
        self.where: Place | None = None  # the target, on a host whose engine is not asked

    def go(self) -> Trace:
        begin, source = self._find(self.q.source)
        at, target = self._find(self.q.target)
        if source is not None and source.remote:
            via = f"--via {source.on}=URL" if source.on else "--via HOST=URL"
            raise NotFound(
                f"container {source.name} is on {_elsewhere(source)}: name the engine there, {via}"
            )
        for place in (source, target):
            if place is not None and not place.running:
                words, fix = f"container {place.name} does not run", f"netkit start {place.name}"
                if place.host:
                    words = f"container {place.name} has the network of {place.host}, which "
                    words += "does not run"
                    fix = f"netkit start {place.host} && netkit restart {place.name}"
                return self._made("container-not-running", words, fix)
        ask = Ask(proto=self.q.proto, port=self.q.port, size=self.q.size,
                  source=source.space if source else self.q.source)  # fmt: skip
        here, there = spot(self.q.source), spot(self.q.target)
        if source is not None and here.network:
            source = on_network(source, here.network)
        if source is not None and source.space != HOST and (here.network or here.address):
            ask = replace(ask, own=tuple(a.address for a in source.addresses))
        if target is None or there.address is not None:
            ask = replace(ask, target=self.q.target)
        elif target.space == HOST and not there.network:
            ask = replace(ask, target=HOST)
        else:
            if there.network:
                target = on_network(target, there.network)
            apart = target.remote or at != begin
            address, note = choose(source, target, apart=apart, explicit=bool(there.network))
            ask = replace(ask, address=address)
            self.notes = (note,) if note else ()
        if target is not None and target.remote:
            self.where = target
        return self._gone(begin, ask)

    def _gone(self, begin: str, ask: Ask) -> Trace:
        here, there = self._follow(begin, ask)
        self.request = tuple(self.steps)
        if there.end == "left":
            return self._beyond(here, there)
        if there.end == "stopped" or there.ends is None:
            return self._made(there.code, there.words, there.fix)
        return self._back(here, there, (begin, self.origin))

    def _find(self, word: str) -> _Owned:
        """Whose it is."""
        home, s = next(iter(self.engines)), spot(word)
        if s.outside:
            return _Owned(home, None)
        if s.kind == "host":
            known_host = self.engines[home].locate(HOST)
            return _Owned(home, known_host or Place(name=HOST, space=HOST))
        known: _Owned | None = None
        for name, engine in self.engines.items():
            if (found := engine.locate(s.name or str(s.address))) is not None:
                if not found.remote:
                    return _Owned(name, found)
                known = known or _Owned(name, found)
        if known is not None:
            return known
        if s.address is None:
            raise NotFound(
                f"no container {s.name}, and no IPv4 address; other words are host, world, "
                "lan:ADDRESS"
            )
        return _Owned(home, None)

    def _follow(self, name: str, ask: Ask) -> _Answered:
        """From host to host as long as there is an engine to ask."""
        leg = self._leg(name, ask)
        if ask.source:
            self.origin = leg.origin
            self.sent = leg.sent
            self.packet = _shown(leg.sent, self.q.proto) if leg.sent else ""
        for _ in range(MOST_LEGS):
            if leg.end != "left":
                return _Answered(name, leg)
            onward = Ask(
                proto=ask.proto, port=ask.port, came=leg.left, ends=leg.ends, answer=ask.answer,
                refused=ask.refused, size=ask.size,
            )  # fmt: skip
            found = next(self._comes(name, onward), None)
            if found is None:
                return _Answered(name, leg)
            name, leg = found
        circles = "it goes round in circles"
        return _Answered(name, replace(leg, end="stopped", code="too-long", words=circles))

    def _comes(self, left: str, onward: Ask) -> Iterator[_Answered]:
        for name in self.engines:
            if name != left:
                leg = self._leg(name, onward)
                if leg.end != "elsewhere":
                    yield _Answered(name, leg)

    def _leg(self, name: str, ask: Ask) -> Leg:
        leg = self.engines[name].leg(replace(ask, flows=self.flows.get(name, ())))
        if leg.end != "elsewhere":
            label = name if len(self.engines) > 1 else ""
            self.steps += [replace(s, host=label) for s in leg.steps]
            self.doubts += leg.doubts
            self.flows[name] = leg.flows
            if leg.away and not ask.answer:
                self.away, self.cure = leg.away, leg.cure
        return leg

    def _back(self, at: str, there: Leg, origin: tuple[str, str]) -> Trace:
        assert there.ends is not None
        self.steps = []
        ask = Ask(
            proto=self.q.proto, port=self.q.port, space=there.space, answer=True,
            refused=not there.taken, ends=Line.of(there.ends.ends.turned),
            size=self.q.size if self.q.proto == "icmp" else 0,  # an echo is as long
        )  # fmt: skip
        here, back = self._follow(at, ask)
        if back.end == "stopped":
            return self._made(back.code, f"its answer: {back.words}", back.fix, leg="answer")
        if back.end == "left" and (here != origin[0] or origin[1]):
            return self._beyond(here, back, leg="answer")
        if back.end == "arrived" and (here, back.space) != origin:
            words = f"its answer arrives at {back.name}{_on(here, self.engines)}"
            return self._made("answer-astray", words, leg="answer")
        if (strange := self._not_put_back(back)) is not None:
            return strange
        if self.doubts:
            return self._made(*self.doubts[0])
        where = f"{there.name}{_on(at, self.engines)}"
        notes = () if origin[1] else (f"what is between {self.q.source} and here is not seen",)
        if there.taken:
            return self._made("delivered", f"delivered to {where}", notes=notes)
        port = f"{there.ends.dport[0]}/{self.q.proto}"
        fix = f"start the service in {there.name}, on 0.0.0.0:{port}"
        if there.space == HOST:
            fix += "; a container's port is published with -p"
        words = f"no process listens on port {port} of {where}"
        if there.words:
            words += f", but {there.words}"
        return self._made("not-listening", words, fix, notes=notes)

    def _not_put_back(self, back: Leg) -> Trace | None:
        """Of an answer that comes from another address than was asked: its receiver ignores it."""
        if self.sent is None or back.ends is None or back.ends.ends.answers(self.sent.ends):
            return None
        ends = back.ends
        port = f":{ends.sport[0]}" if ends.sport[0] else ""
        words = f"its answer comes from {ends.src}{port}, not from {self.sent.dst}"
        return self._made("answer-astray", words + back.away, back.cure, leg="answer")

    def _beyond(self, at: str, last: Leg, leg: str = "request") -> Trace:
        left = last.left
        assert left is not None
        if left.tunnels:
            where = " or ".join(t.name or t.remote for t in left.tunnels)
            how = f"by {left.tunnels[0].kind} tunnel to {where}"
        else:
            where, how = left.near, f"by {left.dev} to {left.near}"
        host = at if len(self.engines) > 1 else "the host"
        words = f"it leaves {host} {how}, where no engine could be asked"
        fix = f"name the engine of {where}, if one runs there: --via HOST=URL"
        if self.where is not None:
            words += f"; {self.where.name} is on {_elsewhere(self.where)}"
            fix = f"follow it there: --via {self.where.on or 'HOST'}=URL"
        return self._made("beyond", words, fix, leg=leg)

    def _made(
        self, code: str, words: str, fix: str = "", *, leg: str = "request",
        notes: tuple[str, ...] = (),
    ) -> Trace:  # fmt: skip
        request = self.request or tuple(self.steps)
        if self.away and code == "delivered":
            notes = (*notes, self.away)
        elif self.away and leg == "request":
            words, fix = f"{words}: {self.away}", self.cure
        return Trace(
            question=self.q, packet=self.packet, verdict=verdict(code), code=code, words=words,
            fix=fix, leg=leg, request=request, notes=(*self.notes, *notes),
            answer=tuple(self.steps) if self.request and tuple(self.steps) != request else (),
        )  # fmt: skip


def _elsewhere(place: Place) -> str:
    """Where it is."""
    known = ", ".join(a.address for a in place.addresses)
    return f"{place.on or 'another host'} ({known})" if known else place.on or "another host"


def _on(name: str, engines: Mapping[str, Asked]) -> str:
    return f" on {name}" if len(engines) > 1 else ""


def _shown(line: Line, proto: str) -> str:
    return f"{line.src} -> {line.dst} " + (proto if proto == "icmp" else f"{proto}/{line.dport[0]}")
