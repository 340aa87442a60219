"""All firewall rules of a namespace as the tools print them, of both iptables and of nft."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import SBIN, TABLES, TIMEOUT, legacy_tables

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


def listing(home: str) -> Listing:
    """Reads only: no table comes into being by it.  KernelError if a tool is missing or fails."""
    saved = [("iptables-nft", _printed(home, "iptables-nft-save"))]
    if legacy_tables(home, 4):
        saved.append(("iptables-legacy", _printed(home, "iptables-legacy-save")))
    # Rules that nft added in its own form: iptables lists nothing of such a table.
    unread = set(INCOMPATIBLE.findall(saved[0][1]))
    tables = [t["table"] for t in _json(home, "list", "tables") if "table" in t]
    native: list[tuple[str, str]] = []
    bridged: list[object] = []
    for family, name in ((t["family"], t["name"]) for t in tables):
        which = ("list", "table", family, name)
        if family in BELOW:
            bridged += _json(home, *which)
        elif family in FAMILIES and not (family == "ip" and name in {*TABLES} - unread):
            native.append(
                (_printed(home, "nft", "-j", *which), _printed(home, "nft", "-a", "-t", *which))
            )
    return Listing(
        saved=tuple(saved),
        native=tuple(native),
        bridged=json.dumps({"nftables": bridged}) if bridged else "",
    )


def _json(home: str, *argv: str) -> list[dict[str, dict[str, str]]]:
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
