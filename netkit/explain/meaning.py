"""Whose a rule is, and what for, in people's terms.  Pure.

Ours carry their owner in their comment; what they are for shows in the chain they stand in.
Chains: plugins/firewall/layout.py, plugins/firewall/nftlayout.py.
"""

from __future__ import annotations

import re

from netkit.explain.facts import Facts

MARK = re.compile(r"netkit:[^\s:]+:([0-9a-z]+)(?::([0-9a-f]{12}))?")
DIGEST = re.compile(r"netkit:\S+ ([0-9a-f]{16})\b")
TREE = re.compile(r"DOCKER-[0-9a-f]{8}.*")  # of a container with many ports
USER = "DOCKER-USER"
OURS = "ours, "

# (chain, what the rule does) -> what for; of iptables, then of nft
PURPOSE = {
    ("DOCKER-ACCESS", "drop"): "an access rule",
    ("DOCKER-ACCESS", "accept"): "an access rule",
    ("DOCKER-CT", "accept"): "answers pass",
    ("DOCKER-INTERNAL", "drop"): "an internal network is kept apart",
    ("DOCKER-INTERNAL", "accept"): "a link",
    ("DOCKER", "accept"): "a published port or a link",
    ("DOCKER", "drop"): "what is not published is closed",
    ("DOCKER-FORWARD", "accept"): "containers reach each other and the world",
    ("DOCKER-FORWARD", "drop"): "neighbours are kept apart, icc is off",
    ("PREROUTING", "drop"): "the host's loopback is its own",
    ("guard", "drop"): "the host's loopback is its own",
    ("access", "drop"): "an access rule",
    ("access", "accept"): "an access rule",
    ("forward", "accept"): "answers pass, and containers reach each other and the world",
    ("forward", "drop"): "an internal network is kept apart",
    ("into-nat", "accept"): "a published port",
    ("into-nat", "drop"): "what is not published is closed",
    ("into-routed", "accept"): "an opened port",
    ("into-routed", "drop"): "what is not opened is closed",
    ("apart-nat", "accept"): "a link or a published port",
    ("apart-nat", "drop"): "neighbours are kept apart, icc is off",
    ("apart-routed", "accept"): "a link",
    ("apart-routed", "drop"): "neighbours are kept apart, icc is off",
    ("apart-closed", "accept"): "a link",
    ("apart-closed", "drop"): "neighbours are kept apart, icc is off",
}


def whose(comment: str, chain: str, facts: Facts) -> str:
    mark = MARK.search(comment)
    if mark is None:
        return "the administrator's" if chain == USER else "foreign, not made by netkit"
    if mark[1] == "global":
        return f"{OURS}for all networks"
    network = facts.networks.get(mark[1], mark[1])
    if not mark[2]:
        return f"{OURS}for network {network}"
    for c in facts.containers.values():
        ids = [*(p.id for p in c.places), *(e.id for e in c.elsewhere.values())]
        if any(id.startswith(mark[2]) for id in ids):
            return f"{OURS}for container {c.name} on network {network}"
    return f"{OURS}for endpoint {mark[2]} of network {network}, which is not there"


def digest(comment: str) -> str:
    """By which a rule of ours is known; "" of others, and of elements."""
    found = DIGEST.search(comment)
    return found[1] if found else ""


def purpose(comment: str, chain: str, does: str) -> str:
    """What one of our rules is for; "" of others, and where it is plain."""
    if MARK.search(comment) is None:
        return ""
    name = "DOCKER" if TREE.fullmatch(chain) else chain
    return PURPOSE.get(("access" if name.startswith("access-") else name, does), "")
