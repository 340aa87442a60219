"""Apply connection tracking of one namespace to a packet that comes into it.  Pure."""

from __future__ import annotations

from netkit.diagnose.explain.packet import Ends, Flow, Packet, State
from netkit.diagnose.trace.leg import Ask, Crossed


def tracked(ends: Ends, ask: Ask, known: Crossed | None) -> Packet:
    """`known` is what the namespace remembers of the request, if that came by here.

    Source: nf_conntrack_proto_tcp.c: a reply without a tracked request is invalid.
    """
    if not ask.answer:
        flow = Flow(original=ends, sent=ends, settled=known is not None)
        return Packet(ends=ends, flow=flow, proto=ask.proto)
    if known is None or known.sent.ends.turned != ends:
        unseen: State = "new" if ask.proto == "udp" else "invalid"
        flow = Flow(original=ends, sent=ends, state=unseen, settled=True)
        return Packet(ends=ends, flow=flow, proto=ask.proto)
    state: State = "related" if ask.refused and ask.proto == "udp" else "established"
    sent = known.sent.ends
    flow = Flow(original=known.original.ends, sent=sent, state=state, answer=True)
    return Packet(ends=ends, flow=flow, proto=ask.proto)
