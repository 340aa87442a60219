"""Recognise rules of this layout that have lost their comments, by patterns.  Pure.

Patterns come in pairs: as `nft list` prints a rule, and as iptables-save does.
"""

from __future__ import annotations

import re

from netkit.model.layout import (
    ACCESS_RULE,
    ICC_OFF,
    INTERNAL,
    LOOPBACK_GUARD,
    NOT_PUBLISHED,
    FirewallLayout,
    Territory,
    purposes,
)
from plugins.firewall.iptables.layout import CHAINS, JUMPS

NAMES = ("DOCKER",)  # beginnings of the names of all chains
USERS = frozenset({("filter", "DOCKER-USER")})  # the administrator's alone
SHARED = frozenset({("filter", "DOCKER"), ("nat", "DOCKER")})  # the administrator may add to these
BUILT_IN = frozenset(
    {("nat", "POSTROUTING"), ("raw", "PREROUTING")}
    | {(table, chain) for table, chain, *_ in JUMPS if (table, chain) not in CHAINS}
)
ENDPOINT_CHAIN = re.compile(r"DOCKER-([0-9a-f]{8})(?:-.*)?")  # see `tree`
# Docker's own go on with capitals.
TREES = tuple(f"DOCKER-{digit}" for digit in "0123456789abcdef")
ADMISSION = (  # see `ports`
    re.compile(
        r'iifname != "(?P<br>[^"]+)" oifname "(?P=br)" ip daddr (?P<ip>[\d.]+) '
        r"(?P<proto>\w+) dport (?P<ports>\S+) ct status dnat accept"
    ),
    re.compile(
        r"-d (?P<ip>[\d.]+)/32 ! -i (?P<br>\S+) -o (?P=br) -p (?P<proto>\w+) -m \w+ "
        r"--dport (?P<ports>\S+) -m conntrack --ctstate DNAT -j ACCEPT"
    ),
)
TRANSLATION = (
    re.compile(r"(?:ip daddr \S+ )?(?P<proto>\w+) dport (?P<ports>\S+) dnat to (?P<to>[\d.:]+)"),
    re.compile(
        r"(?:-d \S+ )?-p (?P<proto>\w+) -m \w+ --dport (?P<ports>\S+) "
        r"-j DNAT --to-destination (?P<to>[\d.:]+)"
    ),
)

# See `rules`; by table and chain.
OF_NETWORKS = {
    ("nat", "POSTROUTING"): (
        re.compile(r'oifname != "\S+" ip saddr \S+ (?:masquerade|snat to [\d.]+)'),
        re.compile(r'oifname "\S+" ip saddr (\S+) ip daddr \1 ct status dnat masquerade'),
        re.compile(r'oifname "\S+" fib saddr type local masquerade'),
        re.compile(r"-s \S+ ! -o \S+ -j (?:MASQUERADE|SNAT --to-source [\d.]+)"),
        re.compile(r"-s (\S+) -d \1 -o \S+ -m conntrack --ctstate DNAT -j MASQUERADE"),
        re.compile(r"-o \S+ -m addrtype --src-type LOCAL -j MASQUERADE"),
    ),
    ("raw", "PREROUTING"): (
        re.compile(r'iifname "\S+" ip [sd]addr 127\.0\.0\.0/8 drop'),
        re.compile(r"-[sd] 127\.0\.0\.0/8 -i \S+ -j DROP"),
    ),
}

PURPOSES = {  # by chain and verdict; chains of an endpoint are parts of DOCKER
    ("DOCKER-ACCESS", "drop"): ACCESS_RULE,
    ("DOCKER-ACCESS", "accept"): ACCESS_RULE,
    ("DOCKER-CT", "accept"): "answers pass",
    ("DOCKER-INTERNAL", "drop"): INTERNAL,
    ("DOCKER-INTERNAL", "accept"): "a link",
    (r"DOCKER(-[0-9a-f]{8}.*)?", "accept"): "a published port or a link",
    (r"DOCKER(-[0-9a-f]{8}.*)?", "drop"): NOT_PUBLISHED,
    ("DOCKER-FORWARD", "accept"): "containers reach each other and the world",
    ("DOCKER-FORWARD", "drop"): ICC_OFF,
    ("PREROUTING", "drop"): LOOPBACK_GUARD,
}

LAYOUT = FirewallLayout(
    territory=Territory(
        names=NAMES,
        alone=frozenset(CHAINS) - USERS - SHARED,
        open=SHARED | BUILT_IN,
        trees=TREES,
        admits=("filter", "DOCKER"),
        admission=ADMISSION,
        translation=TRANSLATION,
        built_in=OF_NETWORKS,
    ),
    users_chains=frozenset(chain for _, chain in USERS),
    purposes=purposes(PURPOSES),
)


def endpoint_of(chain: str) -> str | None:
    """The first 8 digits of the id of the endpoint that a chain is for; None of all others."""
    found = ENDPOINT_CHAIN.fullmatch(chain)
    return found[1] if found else None
