"""Comments on packets: where `net trace` finds that their flow ends.

A flow is traced once a host, by its first packet there; later ones have the same comment.  Of UDP
an answer looks like a request to a high port: what came the other way before is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netkit.capture.flows import Flow, request
from netkit.capture.merging import Packet
from netkit.client.failure import Failure
from netkit.diagnose.trace.join import Trace
from netkit.errors import NetkitError

MOST_FLOWS = 32
Tracing = Callable[[Flow, str], Trace]  # a flow, as it was seen on a host; "": of the engine


class Marks:
    """`hosts` are those of the points.  `MOST_FLOWS` flows are traced at most."""

    def __init__(self, trace: Tracing, hosts: Sequence[str]) -> None:
        self._trace, self._hosts = trace, hosts
        self._found: dict[tuple[Flow, str], str] = {}
        self.untraced = 0  # packets of flows beyond the bound

    def comments(self, packet: Packet, link_type: int) -> list[str]:
        flow = request(packet.data, link_type)
        if flow is None:
            return []
        seen = flow, self._hosts[packet.point]
        if seen not in self._found:
            if flow.proto == "udp" and self._is_answer(flow):
                return []
            if len(self._found) >= MOST_FLOWS:
                self.untraced += 1
                return []
            self._found[seen] = self._asked(*seen)
        return [self._found[seen]]

    def _is_answer(self, flow: Flow) -> bool:
        ends = flow.target, flow.source
        return any((f.source, f.target) == ends and f.proto == "udp" for f, _ in self._found)

    def _asked(self, flow: Flow, host: str) -> str:
        try:
            found = self._trace(flow, host)
        except (Failure, NetkitError) as error:
            return f"net trace: UNDETERMINED: {error}"
        words = f": {found.words}" if found.words else ""
        return f"net trace: {found.verdict}{words}"
