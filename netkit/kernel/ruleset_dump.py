"""Dump all firewall rules of a namespace as the tools print them, both iptables and nft."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import Any

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import nft_compat
from netkit.kernel.iptables.tools import SBIN, TABLES, TIMEOUT, legacy_tables
from netkit.kernel.netlink.codec import Netlink, Request, attributes

GETTABLE = nft_compat.SUBSYSTEM | 1
TABLE_NAME = 1
FAMILY_NAMES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
FAMILIES = frozenset({"ip", "inet"})
INCOMPATIBLE = re.compile(  # nothing is listed, or base chains of other names are not
    r"^# Table `(\w+)' (?:is incompatible|contains incompatible base-chains)", re.MULTILINE
)
BELOW = frozenset({"bridge", "netdev"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    saved: tuple[tuple[str, str], ...]  # (tool, output of its save program)
    native: tuple[tuple[str, str], ...] = ()  # (JSON, text with handles) of each nft table
    bridged: str = ""  # JSON of the nft tables on frames, "" if there are none
    # (table, chain, number) of rules that nft made in iptables-nft's tables with a set, which the
    # save program leaves out of what it prints: findings/iptables-nft-save-omits-set-lookups.sh
    without_set: frozenset[tuple[str, str, int]] = frozenset()


def listing(home: str) -> Listing:
    """List all; creates no table.  KernelError if a tool that is needed is missing or fails."""
    tables = _tables(home)
    shared = any(family == "ip" and name in TABLES for family, name in tables)
    saved = [("iptables-nft", _printed(home, "iptables-nft-save") if shared else "")]
    if legacy_tables(home, 4):
        saved.append(("iptables-legacy", _printed(home, "iptables-legacy-save")))
    # Rules that nft added in its own form: iptables lists nothing of such a table.
    unread = set(INCOMPATIBLE.findall(saved[0][1]))
    native: list[tuple[str, str]] = []
    bridged: list[object] = []
    without_set: set[tuple[str, str, int]] = set()
    for family, name in tables:
        which = ("list", "table", family, name)
        if family in BELOW:
            bridged += _json(home, *which)
        elif family == "ip" and name in {*TABLES} - unread:
            without_set |= _with_sets(_json(home, *which))
        elif family in FAMILIES:
            native.append(
                (_printed(home, "nft", "-j", *which), _printed(home, "nft", "-a", "-t", *which))
            )
    return Listing(
        saved=tuple(saved),
        native=tuple(native),
        bridged=json.dumps({"nftables": bridged}) if bridged else "",
        without_set=frozenset(without_set),
    )


def _tables(home: str) -> list[tuple[str, str]]:
    """(family, name) of all tables of nf_tables, as `nft list tables` has them.

    Most namespaces of containers have none, so that no program has to be started there.
    Source: linux/netfilter/nf_tables.h, NFT_MSG_GETTABLE.
    """
    with netns.inside(home), Netlink(nft_compat.NETLINK_NETFILTER) as netlink:
        return [
            (FAMILY_NAMES[message[0]], attributes(message, 4)[TABLE_NAME].rstrip(b"\0").decode())
            for message in netlink.dump(Request(GETTABLE, nft_compat.HEADER.pack(0, 0, 0)))
            if message[0] in FAMILY_NAMES
        ]


def _with_sets(listed: list[dict[str, Any]]) -> set[tuple[str, str, int]]:
    """Rules that look something up in a set or a map: (table, chain, number from 1)."""
    found: set[tuple[str, str, int]] = set()
    numbers: Counter[tuple[str, str]] = Counter()
    for rule in (entry["rule"] for entry in listed if "rule" in entry):
        place = str(rule["table"]), str(rule["chain"])
        numbers[place] += 1
        if any(_looks_up(part) for part in rule.get("expr", ())):
            found.add((*place, numbers[place]))
    return found


def _looks_up(part: Any) -> bool:
    """In an expression of libnftables-json(5), at any depth."""
    match part:
        case {"set": _} | {"vmap": _} | {"map": _}:
            return True
        case {"match": {"right": str(right)}} if right.startswith("@"):
            return True
        case dict():
            return any(_looks_up(value) for value in part.values())
        case list():
            return any(_looks_up(value) for value in part)
    return False


def _json(home: str, *argv: str) -> list[dict[str, Any]]:
    found = json.loads(_printed(home, "nft", "-j", *argv) or '{"nftables": []}')["nftables"]
    return list(found)


def _printed(home: str, *argv: str) -> str:
    """What a program prints in the namespace."""
    env = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{SBIN}"}
    try:
        with netns.inside(home):
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
                env=env,
            )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise KernelError(f"cannot run {' '.join(argv)}: {e}") from e
    if done.returncode != 0:
        raise KernelError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
