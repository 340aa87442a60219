"""Reason codes: stable words, each of one verdict.  docs/trace.md has the same table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from netkit.model.layout import (
    ACCESS_RULE,
    ICC_OFF,
    INTERNAL,
    LOOPBACK_GUARD,
    NOT_OPENED,
    NOT_PUBLISHED,
)

Verdict = Literal["DELIVERED", "REFUSED", "BLOCKED", "UNROUTED", "LOST", "UNDETERMINED"]

# code -> (verdict, what it means)
CODES: Mapping[str, tuple[Verdict, str]] = {
    "delivered": ("DELIVERED", "it arrives, a process takes it, and the answer comes back"),
    "not-listening": ("REFUSED", "it arrives, but no process listens on the port"),
    "fw-drop": ("BLOCKED", "a firewall rule that is not netkit's, or a policy, drops it"),
    "fw-reject": ("BLOCKED", "a firewall rule rejects it, and the sender gets an error"),
    "access-rule": ("BLOCKED", "a rule made with netkit fw drops it"),
    "icc-off": ("BLOCKED", "the network keeps its containers apart (icc=false)"),
    "internal-network": ("BLOCKED", "the network is internal: nothing comes in or goes out"),
    "not-published": ("BLOCKED", "the port is neither published nor opened to the source"),
    "port-isolated": ("BLOCKED", "both bridge ports are isolated, and icc is not the reason"),
    "source-guard": ("BLOCKED", "a port, or a host of the overlay, may not send from its address"),
    "ovs-drop": ("BLOCKED", "a flow of Open vSwitch drops it"),
    "no-route": ("UNROUTED", "a namespace on the way has no route to the address"),
    "no-neighbour": ("UNROUTED", "no host on the segment has the next hop's address"),
    "no-forwarding": ("UNROUTED", "a namespace on the way does not forward (ip_forward is off)"),
    "too-big": ("UNROUTED", "a packet of that size, which must not be cut, does not fit a link"),
    "container-not-running": ("UNROUTED", "the source or the target does not run"),
    "link-down": ("LOST", "an interface on the way is down, or has no carrier"),
    "port-blocking": ("LOST", "a bridge port is not in state forwarding"),
    "rp-filter": ("LOST", "the reverse path filter drops it: the answer would go another way"),
    "martian": ("LOST", "its source or destination does not belong on that interface"),
    "no-hairpin": ("LOST", "a bridge does not send a frame back to the port it came by"),
    "fdb-elsewhere": ("LOST", "a bridge sends the frame to a port where the target is not"),
    "wrong-mac": ("LOST", "the frame is addressed to a MAC address that no interface here has"),
    "tunnel-down": ("LOST", "the far end of the tunnel does not respond"),
    "overlay-off": ("LOST", "the overlay's process does not run on a host that needs it"),
    "not-translated": ("LOST", "it is for a published port, but not translated to its container"),
    "echo-ignored": ("LOST", "the target does not answer pings (icmp_echo_ignore_all)"),
    "answer-astray": ("LOST", "the answer arrives at or comes from another than was asked"),
    "beyond": ("UNDETERMINED", "it leaves for a host whose engine could not be asked"),
    "rule-unknown": ("UNDETERMINED", "it depends on a firewall rule that is not evaluated"),
    "frame-rules": ("UNDETERMINED", "rules on frames (ebtables, nft bridge) are not evaluated"),
    "policy-routing": ("UNDETERMINED", "it depends on policy routing, which is not evaluated"),
    "hooked": ("UNDETERMINED", "XDP or traffic control on an interface is not evaluated"),
    "ovs-unknown": ("UNDETERMINED", "Open vSwitch cannot be asked, or does what is not followed"),
    "tunnel-unwatched": ("UNDETERMINED", "nothing probes the tunnel, or only one way: is it dead?"),
    "tunnel-beginning": ("UNDETERMINED", "the tunnel is new, and was not seen to work yet"),
    "too-long": ("UNDETERMINED", "it goes round in circles, or further than is followed"),
}

# the reasons of explain.journey -> codes
OF_JOURNEY: Mapping[str, str] = {
    "isolated": "port-isolated", "no-hairpin": "no-hairpin", "no-route": "no-route",
    "no-forwarding": "no-forwarding", "martian": "martian", "rp-filter": "rp-filter",
    "no-neighbour": "no-neighbour", "down": "link-down", "not-translated": "not-translated",
    "guarded": "source-guard",
}  # fmt: skip

# what a rule of ours is for -> codes
OF_PURPOSE: Mapping[str, str] = {
    ACCESS_RULE: "access-rule",
    INTERNAL: "internal-network",
    NOT_PUBLISHED: "not-published",
    NOT_OPENED: "not-published",
    ICC_OFF: "icc-off",
    LOOPBACK_GUARD: "martian",
}


def verdict(code: str) -> Verdict:
    return CODES[code][0]
