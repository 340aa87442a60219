"""Find why a way ends, its code and fix, and which rules are worth reporting.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import NamedTuple

from netkit.diagnose.explain.deciding import admission, decider
from netkit.diagnose.explain.facts import LO, Place, best
from netkit.diagnose.explain.hooks import Passed
from netkit.diagnose.explain.journey import End, Party
from netkit.diagnose.explain.packet import Ends, Packet
from netkit.diagnose.trace import advice
from netkit.diagnose.trace.codes import OF_JOURNEY, OF_PURPOSE
from netkit.diagnose.trace.facts import Nic, Observer, Space
from netkit.diagnose.trace.leg import Stop

NO_CARRIER_KINDS = frozenset({"bridge", "tap", "tun"})  # their carrier is irrelevant to the way
TRANSLATES = frozenset({"dnat", "snat", "masquerade", "redirect"})


def ended(space: Space, party: Party, end: End, observer: Observer, dst: IPv4Address) -> Stop:
    """Of a packet for `dst`, as it was when it came."""
    if end.stopped is not None:
        return by_rule(space, end.stopped, end.rejected, end.at, observer)
    code = OF_JOURNEY[end.reason]
    place = plugged(space, party, dst)
    icc = all(
        e.icc
        for e in observer.endpoints()
        if e.container == party.name and place is not None and e.network == place.network
    )
    port = place.port if place else "PORT"
    fix = f"{advice.inside(space)}sysctl -w {end.setting}" if end.setting else ""
    match code:
        case "port-isolated" if not icc:
            return Stop("icc-off", end.words)
        case "port-isolated":
            fix = f"{advice.inside(space)}bridge link set dev {port} isolated off"
        case "no-hairpin":
            fix = f"{advice.inside(space)}bridge link set dev {port} hairpin on"
        case "no-forwarding":
            iface = party.iface or (place.bridge if place else "all")
            own = f"net/ipv4/conf/{iface}/forwarding=1"  # ip_forward=1 again changes nothing
            fix = f"{advice.inside(space)}sysctl -w net/ipv4/ip_forward=1 {own}"
    return Stop(code, end.words, fix)


def plugged(space: Space, party: Party, dst: IPv4Address) -> Place | None:
    """Where the container that sends to `dst` does so: on the network that its routes lead to."""
    container = space.facts.containers.get(party.name)
    path = best(container.routes, dst) if container else None
    return container.place(path.dev) if container and path else None


def by_rule(
    space: Space, passed: Passed, rejected: bool, at: Packet | None, observer: Observer
) -> Stop:
    rule = decider(passed, space.facts)
    assert rule is not None, "a rule or a policy stops packets"
    code = OF_PURPOSE.get(rule.purpose, "fw-reject" if rejected else "fw-drop")
    verb = "rejected" if rejected else "dropped"
    words = f"{verb} in {space.name} by {rule.place}: {rule.words}: {rule.text}"
    return Stop(code, words, advice.of_rule(code, rule, space, at, observer))


def usable(space: Space, name: str) -> Nic:
    """The interface, if packets go in and out by it.  Stop: they do not, or it is unknown."""
    nic = space.nics.get(name)
    if nic is None:
        raise Stop("link-down", f"{space.name} has no interface {name}")
    if nic.hooked:
        raise Stop("hooked", f"{nic.hooked} on {name} of {space.name} is not evaluated")
    if not nic.up:
        raise down(space, nic)
    if not nic.carrier and nic.kind not in NO_CARRIER_KINDS and name != LO:
        words = f"{name} of {space.name} has no carrier: its other end is down"
        raise Stop("link-down", words, f"ip link set {nic.peer} up" if nic.peer else "")
    if not nic.forwards:
        raise Stop(
            "port-blocking",
            f"bridge port {name} is not in state forwarding",
            f"bridge link set dev {name} state 3",
        )
    return nic


def fits(space: Space, nic: Nic, size: int, around: int = 0) -> None:
    """Stop: a packet of `size` bytes, which must not be cut, is too long for a link.

    `around`: bytes that another packet, which it is put into, has besides.
    """
    if size + around > nic.mtu:
        outer = f", in a packet of {size + around}," if around else ""
        raise Stop(
            "too-big",
            f"a packet of {size} bytes{outer} does not fit {nic.name} of {space.name}, whose MTU "
            f"is {nic.mtu}: at most {nic.mtu - around} do",
        )


class Reception(NamedTuple):
    """Does a process take what arrived?  `why` says which, or why none."""

    taken: bool
    why: str


def received(space: Space, proto: str, ends: Ends, nic: str) -> Reception:
    """Return the process that receives what arrived by `nic`.  Stop: it is ignored."""
    if proto == "icmp":
        if space.ignores_echo:
            fix = f"{advice.inside(space)}sysctl -w net.ipv4.icmp_echo_ignore_all=0"
            raise Stop("echo-ignored", f"{space.name} ignores echo requests", fix)
        return Reception(True, "the kernel answers echo requests")
    port = ends.dport[0]
    _not_held(space, proto, ends.dst, port)
    for s in space.sockets:
        if s.takes(proto, ends.dst, port, nic):
            return Reception(True, f"listens on {s.address}:{port}/{proto}")
    elsewhere = _elsewhere(space, proto, port)
    return Reception(False, f"no process listens on {ends.dst}:{port}/{proto}{elsewhere}")


def _not_held(space: Space, proto: str, address: IPv4Address, port: int) -> None:
    """The socket that netkit holds for a published port never answers: rules lead past it."""
    for p in space.facts.ports:  # of the host
        if (p.proto, p.host_port) == (proto, port) and p.host_ip in {"0.0.0.0", str(address)}:
            words = f"it ends at the socket that only holds {address}:{port}/{proto} for"
            raise Stop("not-translated", f"{words} {p.container}")


def _elsewhere(space: Space, proto: str, port: int) -> str:
    """Where else a service listens on the port, or where the port leads."""
    for s in space.sockets:
        if (s.proto, s.port) == (proto, port):
            by = f" by {s.nic}" if s.nic else ""
            return f", but it listens on {s.address}:{port}{by} only"
    return ""


def down(space: Space, nic: Nic) -> Stop:
    words = f"{nic.name} of {space.name} is down"
    return Stop("link-down", words, f"{advice.inside(space)}ip link set {nic.name} up")


def decisions(passed: list[Passed], space: Space) -> Iterator[str]:
    """Of the rules that took part: those that translate or let it in, or end it."""
    let_in = admission(tuple(passed))
    for p in passed:
        word = p.what.split(" ", 1)[0]
        if p is let_in or word in TRANSLATES | {"drop", "reject"}:
            rule = decider(p, space.facts)
            if rule is not None:
                yield f"{p.hook}: {p.what}, {rule.place}: {rule.words}"
        elif word == "answer:":
            yield f"{p.hook}: {p.what} (connection tracking)"
