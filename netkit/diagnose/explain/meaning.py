"""Name the owner and the purpose of a rule.  Pure.

Ours carry their owner in their comment; what they are for shows in the chain they stand in, which
the layouts of the firewalls list (netkit.model.layout).
"""

from __future__ import annotations

import re

from netkit.diagnose.explain.facts import Facts

MARK = re.compile(r"netkit:[^\s:]+:([0-9a-z]+)(?::([0-9a-f]{12}))?")
DIGEST = re.compile(r"netkit:\S+ ([0-9a-f]{16})\b")
OURS = "ours, "


def whose(comment: str, chain: str, facts: Facts) -> str:
    mark = MARK.search(comment)
    if mark is None:
        users = any(chain in layout.users_chains for layout in facts.layouts)
        return "the administrator's" if users else "foreign, not made by netkit"
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


def purpose(comment: str, chain: str, does: str, facts: Facts) -> str:
    """What one of our rules is for; "" of others, and where it is plain."""
    if MARK.search(comment) is None:
        return ""
    return next(filter(None, (layout.purpose(chain, does) for layout in facts.layouts)), "")
