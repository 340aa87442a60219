"""Follow the outer packet of an overlay through the rules of one host.  Pure."""

from __future__ import annotations

from dataclasses import replace

from netkit.diagnose.explain.hooks import Trail
from netkit.diagnose.explain.journey import Journey, Party
from netkit.diagnose.explain.packet import Packet
from netkit.diagnose.trace import causes
from netkit.diagnose.trace.facts import HOST, Observer
from netkit.diagnose.trace.leg import Stop
from netkit.diagnose.trace.overlay import SENDERS
from netkit.diagnose.trace.stops import decisions
from netkit.diagnose.trace.switching import Say


def follow(
    packet: Packet, iface: str, observer: Observer, guesses: tuple[bool, ...], asked: int, say: Say
) -> int:
    """See overlay.Outer; return how many guesses were asked for, as `Trail.asked`.

    Who sends by VXLAN is checked elsewhere (overlay_arriving).  Undecided.
    """
    host = observer.space(HOST)
    facts = replace(host.facts, rules=host.facts.rules.without_table(SENDERS))
    party = Party(kind="outside", iface=iface) if iface else Party(kind="host")
    trail = Trail(facts, guesses, asked=asked)
    end = Journey(facts, trail).go(party, packet)
    for why in decisions(trail.passed, host):
        say(host.name, "rule", f"outer packet: {why}")
    if end.party is None:
        dst = packet.ends.dst
        stop = causes.ended_there(host, party, end, packet, dst, observer)
        outer = f"the outer packet, udp/{packet.ends.dport[0]} to {dst}"
        raise Stop(stop.code, f"{outer}: {stop.words}", stop.fix)
    return trail.asked
