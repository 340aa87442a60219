"""Compose the command that deletes the rule that stops a packet.  Pure."""

from __future__ import annotations

import shlex

from netkit.diagnose.explain.deciding import Decider
from netkit.diagnose.explain.packet import Packet
from netkit.diagnose.explain.ruleset import PROTOCOLS


def remedy(rule: Decider, packet: Packet | None = None) -> str:
    """A command for the namespace of the rule; "" for rules of netkit's, which are not the user's.

    Another tool's rule is deleted.  Of a policy only this kind of `packet` is let past.
    """
    if rule.ours:
        return ""
    if not rule.number:
        return _let_past(rule, packet) if packet is not None else ""
    return removal(rule.tool, rule.table, rule.chain, rule.number, rule.handle)


def removal(tool: str, table: str, chain: str, number: int, handle: int) -> str:
    """Of one rule, wherever it is from."""
    if tool == "nft":
        return f"nft delete rule {table} {shlex.quote(chain)} handle {handle}"
    return f"{tool} -t {table} -D {shlex.quote(chain)} {number}"


def _let_past(rule: Decider, packet: Packet) -> str:
    nft = rule.tool == "nft"
    if packet.flow.answer:
        words = "ct state established,related" if nft else "-m conntrack --ctstate ESTABLISHED"
    elif packet.proto == "icmp":
        words = "ip protocol icmp" if nft else "-p icmp"
    elif packet.proto in PROTOCOLS and packet.ends.dport[0] == packet.ends.dport[1]:
        proto, port = packet.proto, packet.ends.dport[0]
        words = f"{proto} dport {port}" if nft else f"-p {proto} --dport {port}"
    else:
        return ""
    if nft:
        return f"nft insert rule {rule.table} {shlex.quote(rule.chain)} {words} accept"
    return f"{rule.tool} -t {rule.table} -I {shlex.quote(rule.chain)} {words} -j ACCEPT"
