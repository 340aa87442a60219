"""What every iptables has, in the kernel made of a dict."""

from __future__ import annotations

TARGETS = frozenset(
    {"ACCEPT", "DROP", "RETURN", "REJECT", "MASQUERADE", "DNAT", "SNAT", "LOG", "MARK", "CT"}
)
BUILTIN = frozenset(
    (table, chain)
    for table, chains in {
        "filter": ("INPUT", "FORWARD", "OUTPUT"),
        "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
        "raw": ("PREROUTING", "OUTPUT"),
        "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    }.items()
    for chain in chains
)
