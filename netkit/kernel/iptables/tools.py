"""Run the iptables tools, and parse their output.

Reading must not bring legacy tables into being; merely listing one does.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel import run as program
from netkit.kernel.iptables.legacy.client import Broken, Committer, Inexpressible, Refused
from netkit.kernel.iptables.legacy.language import words
from netkit.kernel.iptables.legacy_fingerprint import fingerprint
from netkit.kernel.run import PrestartedProgram

Variant = Literal["nft", "legacy"]
TABLES = ("filter", "nat", "mangle", "raw", "security")
BUILTIN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
NAMES = {4: "ip_tables_names", 6: "ip6_tables_names"}  # in /proc/net: existing legacy tables
PROGRAMS = {4: "iptables", 6: "ip6tables"}
LOCK_WAIT = 10  # seconds for the lock that legacy tools share
FORBIDDEN = (1, 8, 11)  # from this iptables on, python-iptables 1.2.0 crashes (its issue 353)
MOST = 64  # lines; longer ones are quicker by the tool, see xtables.client
TIMEOUT = 60  # seconds; 10,000 rules take 0.5
UNREAD = 5.0  # seconds: a legacy table is read again after them, even if it looks the same
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # not in every daemon's PATH
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


EMPTY = SavedTable((), ())


class RestoreFailed(KernelError):
    """`line` (from 1) of the input is the faulty one, where the tool named it.

    With errno EAGAIN the tables may have changed: look again, and try again.
    """

    def __init__(self, message: str, line: int | None, number: int | None = None) -> None:
        super().__init__(message, errno=number)
        self.line = line


class Tools:
    """The tools of one variant, in one namespace.  `close` ends the processes that commit.

    Legacy tables are read by the tool, which is quicker, and committed by python-iptables,
    unless the text is long or beyond it, or it does not work here.  With `standby` the tool for
    nf_tables is started before it is needed; for legacy tables it would hold their lock.
    """

    def __init__(
        self,
        variant: Variant,
        home: str,
        committer: Committer | None = None,
        *,
        standby: bool = False,
    ) -> None:
        self.variant: Variant = variant
        self._home = home
        self._standby: dict[int, PrestartedProgram] | None = (
            {} if standby and variant == "nft" else None
        )
        self._committer = committer or Committer(home)
        self._why_not: str | None = None  # python-iptables is not used; "" it is
        self._read: dict[str, tuple[float, str, SavedTable]] = {}  # legacy tables
        self.commits = 0  # of ours to legacy tables: the kernel sends no event of these

    def save(self, family: int, table: str) -> SavedTable:
        """Read one table; a legacy table that does not exist is empty, and is not created."""
        if self.variant == "legacy" and table not in legacy_tables(self._home, family):
            return EMPTY
        if self.variant == "legacy" and family == 4:
            return self._legacy(table)
        return self._save(family, table)

    def _legacy(self, table: str) -> SavedTable:
        """Run the tool, which takes 20 ms, only if the table in the kernel has changed."""
        before = self._fingerprint(table)
        at, known, have = self._read.get(table, (0.0, "", EMPTY))
        if before and known == before and time.monotonic() - at < UNREAD:
            return have
        saved = self._save(4, table)
        # Only what was read between two equal fingerprints is of one state.
        if before == self._fingerprint(table):
            self._read[table] = time.monotonic(), before, saved
        return saved

    def _fingerprint(self, table: str) -> str:
        """A digest of the table; empty if it cannot be read, or the table is changing."""
        try:
            return fingerprint(self._home, [table])[table]
        except (KernelError, OSError):
            return ""

    def _save(self, family: int, table: str) -> SavedTable:
        name = f"{PROGRAMS[family]}-{self.variant}-save"
        done = run(self._home, [name, "-t", table])
        if why := complaint(done):
            raise KernelError(f"{name} -t {table}: {why}")
        return parsed(done.stdout)

    def restore(self, family: int, text: str) -> None:
        """Commit each table of `text` as a whole, beside what there is.  RestoreFailed if not."""
        try:
            self._commit(family, text)
        finally:  # some tables may have been committed before one failed
            self.commits += self.variant == "legacy"

    def _commit(self, family: int, text: str) -> None:
        if self.variant == "legacy" and text.count("\n") <= MOST and not self.without():
            try:
                self._committer.commit(family, text, LOCK_WAIT)
                return
            except Refused as e:
                raise RestoreFailed(f"python-iptables: {e}", e.line, e.errno) from e
            except Broken as e:
                # Tables may have changed: not committed a second time by the tool without a look.
                if e.began:
                    raise RestoreFailed(f"python-iptables: {e}", None, errno.EAGAIN) from e
            except Inexpressible:
                pass  # the tool can express it, or has the better error message
        name = f"{PROGRAMS[family]}-{self.variant}-restore"
        done = self._run_restore(family, [name, "--noflush", "-w", str(LOCK_WAIT)], text)
        if why := complaint(done):
            line = LINE.search(done.stderr)
            again = errno.EAGAIN if done.returncode < 0 else None  # it may have committed
            raise RestoreFailed(f"{name}: {why}", int(line[1]) if line else None, again)

    def _run_restore(
        self, family: int, argv: Sequence[str], text: str
    ) -> subprocess.CompletedProcess[str]:
        if self._standby is None:
            return run(self._home, argv, text)
        waiting = self._standby.setdefault(family, PrestartedProgram(argv, environment()))
        with _tool(self._home, argv[0]):
            return waiting.run(text, timeout=TIMEOUT)

    def without(self) -> str:
        """Return why python-iptables does not commit here; "" if it does."""
        if self._why_not is None:
            found = version(self._home, "legacy")
            self._why_not = ""
            if found >= FORBIDDEN:
                said = ".".join(map(str, found))
                self._why_not = f"python-iptables crashes with iptables {said}"
        return self._why_not or self._committer.unusable

    @property
    def committer(self) -> str:
        """The name of what commits; on legacy tables, if not python-iptables, with the reason."""
        if self.variant == "nft":
            return "iptables-nft-restore"
        if why := self.without():
            return f"iptables-legacy-restore, {why}"
        return f"python-iptables {self._committer.version}".rstrip()

    def close(self) -> None:
        self._committer.close()
        for waiting in (self._standby or {}).values():
            waiting.close()


def parsed(text: str) -> SavedTable:
    """Parse iptables-save's output for one table."""
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
    """Quote arguments as iptables-restore reads them.  KernelError for what it cannot express."""
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
    """Split iptables-save's line of a rule into arguments."""
    return tuple(words(spec))


def version(home: str, variant: Variant) -> tuple[int, ...]:
    """Return the version of a variant's tools, such as (1, 8, 9).  KernelError if not installed."""
    said = run(home, [f"iptables-{variant}", "-V"]).stdout
    found = re.search(r"v(\d+(?:\.\d+)+)", said)
    if found is None:
        raise KernelError(f"iptables-{variant} -V prints no version: {said.strip()!r}")
    return tuple(map(int, found[1].split(".")))


def legacy_tables(home: str, family: int) -> tuple[str, ...]:
    """Existing tables in this namespace; reading this has no side effect."""
    with netns.inside(home):
        try:
            return tuple(Path(f"/proc/thread-self/net/{NAMES[family]}").read_text().split())
        except FileNotFoundError:
            return ()


def installed(name: str) -> bool:
    return shutil.which(name, path=_path()) is not None


def run(
    home: str, argv: Sequence[str], text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a firewall tool in a namespace.  KernelError if it is missing, hangs, cannot be run."""
    with _tool(home, argv[0]):
        return program.run(argv, text or "", timeout=TIMEOUT, env=environment())


@contextmanager
def _tool(home: str, name: str) -> Iterator[None]:
    """Run a tool inside the namespace; its failures are KernelErrors."""
    try:
        with netns.inside(home):
            yield
    except FileNotFoundError as e:
        raise KernelError(f"{name} is not installed: install the package iptables") from e
    except subprocess.TimeoutExpired as e:
        raise KernelError(f"{name} did not end in {TIMEOUT} s and was killed") from e
    except OSError as e:
        raise KernelError(f"cannot run {name}: {e.strerror}", errno=e.errno) from e


def environment() -> dict[str, str]:
    """Return the environment of a firewall tool: messages in English, PATH with sbin."""
    return {**os.environ, "LC_ALL": "C", "PATH": _path()}


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{SBIN}"


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return a tool's error message on one line, without warnings and advice; "" if none."""
    if done.returncode == 0:
        return ""
    lines = (line.strip() for line in done.stderr.splitlines())
    said = [s for s in lines if s and not s.startswith(("# Warning", "Try "))]
    if done.returncode < 0:
        said.append(f"killed by signal {-done.returncode}")
    return " ".join(said) or f"exit status {done.returncode}"
