"""The iptables tools: which of the two variants, running them, and reading what they print.

A host uses one variant only.  Rules of the other would be seen by nobody who looks, so the
choice follows what is there already, and reading it must not bring legacy tables into being
(merely listing one does).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from netkit.errors import KernelError
from netkit.kernel import netns, nftables
from netkit.kernel.netlink import Netlink

Variant = Literal["nft", "legacy"]
TABLES = ("filter", "nat", "mangle", "raw", "security")
BUILTIN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
NAMES = {4: "ip_tables_names", 6: "ip6_tables_names"}  # in /proc/net: legacy tables in being
PROGRAMS = {4: "iptables", 6: "ip6tables"}
LOCK_WAIT = 10  # seconds for the lock that legacy tools share
TIMEOUT = 60  # seconds; 10,000 rules take 0.5
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # not everybody has these in PATH
FOLK = re.compile(r"^:(DOCKER|KUBE-)", re.MULTILINE)  # who has these lives on that side
SAFE = re.compile(r"[\w@%+=:,./!-]+", re.ASCII)
LINE = re.compile(r"\b(?:at )?line:? (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SavedRule:
    chain: str
    spec: str  # what follows `-A CHAIN `


@dataclass(frozen=True, slots=True)
class SavedTable:
    chains: tuple[str, ...]
    rules: tuple[SavedRule, ...]


class RestoreFailed(KernelError):
    """`line` (from 1) of the input is to blame, where the tool said so."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


class Tools:
    """The tools of one variant, in one namespace."""

    def __init__(self, variant: Variant, home: str) -> None:
        self.variant: Variant = variant
        self._home = home

    def save(self, family: int, table: str) -> SavedTable:
        """One table as it is; a legacy table that is not there is empty, and stays away."""
        if self.variant == "legacy" and table not in legacy_tables(self._home, family):
            return SavedTable((), ())
        name = f"{PROGRAMS[family]}-{self.variant}-save"
        done = _run(self._home, [name, "-t", table])
        if done.returncode != 0:
            raise KernelError(f"{name} -t {table}: {_said(done.stderr)}")
        return parsed(done.stdout)

    def restore(self, family: int, text: str) -> None:
        """Commit each table of `text` as a whole, beside what there is."""
        name = f"{PROGRAMS[family]}-{self.variant}-restore"
        done = _run(self._home, [name, "--noflush", "-w", str(LOCK_WAIT)], text)
        if done.returncode != 0:
            line = LINE.search(done.stderr)
            raise RestoreFailed(f"{name}: {_said(done.stderr)}", int(line[1]) if line else None)


def parsed(text: str) -> SavedTable:
    """What iptables-save printed for one table."""
    chains: list[str] = []
    rules: list[SavedRule] = []
    for line in text.splitlines():
        if line.startswith(":"):
            chains.append(line[1:].split(" ", 1)[0])
        elif line.startswith("-A "):
            _, chain, *rest = line.split(" ", 2)
            rules.append(SavedRule(chain, rest[0] if rest else ""))
    return SavedTable(tuple(chains), tuple(rules))


def quoted(args: Sequence[str]) -> str:
    """Arguments as iptables-restore reads them.  KernelError for what it cannot be told."""
    return " ".join(map(_quoted, args))


@lru_cache(maxsize=4096)  # rules are made of the same few words
def _quoted(arg: str) -> str:
    if SAFE.fullmatch(arg):
        return arg
    if "\n" in arg or "\0" in arg:
        raise KernelError(f"rule argument {arg!r} has a line break: iptables cannot take it")
    escaped = arg.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def arguments(spec: str) -> tuple[str, ...]:
    """What iptables-save printed of a rule, as arguments."""
    return tuple(shlex.split(spec))


def legacy_tables(home: str, family: int) -> tuple[str, ...]:
    """Those in being in this namespace; reading this has no side effect."""
    with netns.inside(home):
        try:
            return tuple(Path(f"/proc/thread-self/net/{NAMES[family]}").read_text().split())
        except FileNotFoundError:
            return ()


def choose(home: str, wish: Variant | None = None) -> Variant:
    """The variant in use in this namespace; where neither is, what `iptables` itself is.

    Where both hold rules, the side with Docker's or Kubernetes' chains, else nft.
    """
    if wish is not None:
        return wish
    legacy = "\n".join(_saved(home, "legacy", t) for t in legacy_tables(home, 4))
    legacy_live = "\n-A " in legacy or FOLK.search(legacy) is not None
    with netns.inside(home), Netlink(nftables.NETLINK_NETFILTER) as netlink:
        nft_live = any(nftables.rules(netlink, 4, t) for t in TABLES)
        nft_folk = any(FOLK.search(f":{c}") for t in TABLES for c in nftables.chains(netlink, 4, t))
    if legacy_live and (nft_live or nft_folk):
        return "legacy" if FOLK.search(legacy) and not nft_folk else "nft"
    if legacy_live:
        return "legacy"
    if nft_live or nft_folk:
        return "nft"
    return "legacy" if "legacy" in _run(home, ["iptables", "-V"]).stdout else "nft"


def _saved(home: str, variant: Variant, table: str) -> str:
    return _run(home, [f"iptables-{variant}-save", "-t", table]).stdout


def _run(
    home: str, argv: Sequence[str], text: str | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        with netns.inside(home):
            return subprocess.run(
                argv,
                input=text if text is not None else "",
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
                env={**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{SBIN}"},
            )
    except FileNotFoundError as e:
        raise KernelError(f"{argv[0]} is not installed: install the package iptables") from e
    except subprocess.TimeoutExpired as e:
        raise KernelError(f"{argv[0]} did not end in {TIMEOUT} s and was killed") from e
    except OSError as e:
        raise KernelError(f"cannot run {argv[0]}: {e.strerror}", errno=e.errno) from e


def _said(stderr: str) -> str:
    """Its error message on one line, without warnings and advice."""
    lines = (line.strip() for line in stderr.splitlines())
    said = [s for s in lines if s and not s.startswith(("# Warning", "Try "))]
    return " ".join(said) or "failed without a word"
