"""The leak oracle: what an engine has on this machine, and what it left there.

A snapshot lists links, addresses, routes, listeners and firewall rules of the engine's network
namespace, and - anywhere on the machine - mounts, namespace files, processes and control groups
that are the engine's, its files, and the daemon's open descriptors.  Everything in it is a sorted
set of lines, so that a difference reads like a diff.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Protocol

HEX64 = re.compile(r"[0-9a-f]{64}")
CGROUPS = Path("/sys/fs/cgroup")
SETTLE_SECONDS = 10  # how long an engine may take to tidy up after its last answer
FD_SLACK = 5  # descriptors a daemon may keep: a client that has just left, a log being opened
# Written by databases and logs as they please; their presence says nothing.
VOLATILE = re.compile(r"(-wal|-shm|-journal|\.log|\.pid|\.sock|\.lock)$")
# What merely looking at a table makes: the kernel's own chains, empty and accepting.
SCAFFOLD = re.compile(
    r"^(\*\w+|COMMIT|#.*|:(INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING) ACCEPT.*"
    r"|table ip6? (filter|nat|mangle|raw|security) \{|\}"
    r"|chain (INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING) \{|type .* policy accept;)$"
)
COUNTERS = re.compile(r"\[\d+:\d+\]")


class Subject(Protocol):
    """The engine to look at."""

    root: Path
    rundir: Path  # one of them is in the command lines of all its processes

    @property
    def netns(self) -> str: ...

    @property
    def pid(self) -> int: ...

    def running(self) -> bool: ...


@dataclass(frozen=True)
class Snapshot:
    links: frozenset[str]
    addresses: frozenset[str]
    routes: frozenset[str]
    listeners: frozenset[str]
    rules: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    processes: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]
    descriptors: Counter[str] = field(default_factory=Counter)

    def leaked(self, later: Snapshot, ignore: Collection[str] = ()) -> list[str]:
        """List what `later` has more, one line each; `ignore` names fields to skip."""
        found = [
            f"{part.name}: {line}"
            for part in fields(self)
            if part.name not in {"descriptors", *ignore}
            for line in sorted(getattr(later, part.name) - getattr(self, part.name))
        ]
        more = later.descriptors - self.descriptors
        counted = bool(self.descriptors) and "descriptors" not in ignore
        if counted and sum(more.values()) > FD_SLACK:
            found += [f"descriptors: {n} more of {kind}" for kind, n in sorted(more.items())]
        return found

    def lost(self, later: Snapshot) -> list[str]:
        """List what was there before and is missing: an engine may remove only its own."""
        return [
            f"{part}: {line}"
            for part in ("links", "addresses", "routes", "rules")
            for line in sorted(getattr(self, part) - getattr(later, part))
        ]


def snapshot(engine: Subject) -> Snapshot:
    ns, marks = engine.netns, (f"{engine.root}/", f"{engine.rundir}/")
    return Snapshot(
        links=frozenset(_links(ns)),
        addresses=frozenset(_addresses(ns)),
        routes=frozenset(_routes(ns)),
        listeners=frozenset(_listeners(ns)),
        rules=frozenset(_rules(ns)),
        namespaces=frozenset(_namespaces(engine)),
        mounts=frozenset(_mounts(marks)),
        processes=frozenset(_processes(marks, engine.pid)),
        cgroups=frozenset(_abandoned_cgroups()),
        files=frozenset(_files(engine)),
        descriptors=_descriptors(engine.pid) if engine.running() else Counter(),
    )


def assert_clean(
    before: Snapshot,
    now: Callable[[], Snapshot],
    within: float = SETTLE_SECONDS,
    ignore: Collection[str] = (),
) -> None:
    """Fail with the list of what is left unless all of it goes within the time given.

    Control groups have no owner: those of engines of other tests, which run at the same time, come
    and go.  A group counts if it was there at every look.
    """
    deadline = time.monotonic() + within
    lasting: frozenset[str] | None = None
    while True:
        after = now()
        groups = after.cgroups - before.cgroups
        lasting = groups if lasting is None else lasting & groups
        after = replace(after, cgroups=lasting)
        left = before.leaked(after, ignore) + _removed(before.lost(after))
        if not left:
            return
        if time.monotonic() > deadline:
            raise AssertionError("left behind by the engine:\n  " + "\n  ".join(left))
        time.sleep(0.25)


def _removed(lines: list[str]) -> list[str]:
    return [f"missing {line}" for line in lines]


def _lines(*argv: str) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    return [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]


def _json(*argv: str) -> list[dict[str, object]]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    return [entry for entry in json.loads(done.stdout or "[]") if entry]


def _links(ns: str) -> Iterator[str]:
    for link in _json("ip", "-n", ns, "-j", "-d", "link"):
        info = link.get("linkinfo")
        kind = info.get("info_kind", "") if isinstance(info, dict) else ""
        yield f"{link['ifname']} {kind} master {link.get('master', '-')}"


def _addresses(ns: str) -> Iterator[str]:
    for link in _json("ip", "-n", ns, "-j", "-4", "addr"):
        for a in link["addr_info"]:  # type: ignore[attr-defined]
            yield f"{link['ifname']} {a['local']}/{a['prefixlen']}"


def _routes(ns: str) -> Iterator[str]:
    """IPv4 only: the kernel adds and drops IPv6 link-local ones with the carrier, as "linkdown"."""
    for line in _lines("ip", "-n", ns, "-4", "route", "show", "table", "all"):
        yield line.replace(" linkdown", "")


def _listeners(ns: str) -> Iterator[str]:
    """List listening and bound sockets of the host namespace, without their holders."""
    for line in _lines("nsenter", f"--net=/run/netns/{ns}", "--", "ss", "-Hlntu"):
        words = line.split()
        yield f"{words[0]} {words[4]}"


def _rules(ns: str) -> Iterator[str]:
    """List rules of both iptables variants, without counters; unused tables are not opened."""
    enter = ("nsenter", f"--net=/run/netns/{ns}", "--")
    for family, tables in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        opened = _lines(*enter, "cat", f"/proc/net/{tables}")
        for table in opened:
            for line in _lines(*enter, f"{family}-legacy-save", "-t", table):
                if not SCAFFOLD.match(line):
                    yield f"{family}-legacy {table} {COUNTERS.sub('', line)}"
    table = ""
    for line in _lines(*enter, "nft", "-s", "list", "ruleset"):
        if line.startswith("table "):
            table = line.rstrip(" {")
        if SCAFFOLD.match(line):
            continue
        yield f"nft {table} {re.sub(r'counter packets [0-9]+ bytes [0-9]+', 'counter', line)}"


def _namespaces(engine: Subject) -> Iterator[str]:
    """List named namespaces that belong to the engine, wherever they are kept."""
    for folder in (engine.rundir / "netns", Path("/run/netkit/netns"), Path("/run/docker/netns")):
        if folder.is_dir():
            yield from (str(entry) for entry in sorted(folder.iterdir()))


def _mounts(marks: Collection[str]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if any(mark in words[4] for mark in marks):
            yield f"{words[4]} {words[words.index('-') + 1]}"


def _processes(marks: Collection[str], daemon: int) -> Iterator[str]:
    """List processes that name the engine's folders in their arguments or have their root there.

    The daemon itself, and a dockerd's containerd, are not containers' and are left out.
    """
    for proc in Path("/proc").glob("[0-9]*"):
        pid = int(proc.name)
        if pid in (daemon, os.getpid()):
            continue
        try:
            argv = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name = (proc / "comm").read_text().strip()
            rooted = any(
                mark in line
                for line in (proc / "mountinfo").read_text().splitlines()
                if " / / " in line
                for mark in marks
            )
        except OSError:
            continue
        tester = name in {"pytest", "docker", "netkit"} or argv.startswith(
            ("docker ", "/usr/local/bin/docker ")
        )
        if (
            (rooted or any(mark in argv for mark in marks))
            and not tester
            and name not in {"containerd", "dockerd", "netkitd"}
        ):
            yield f"{name} {argv[:160]}"


def _abandoned_cgroups() -> Iterator[str]:
    """List groups named after a container that have no process.

    Engines of other tests may run at the same time: theirs have processes, or disappear while
    we wait.  A group that keeps its processes shows up under `processes`.
    """
    for folder, children, names in os.walk(CGROUPS):
        if HEX64.search(folder) and not children and "cgroup.procs" in names:
            try:
                if not Path(folder, "cgroup.procs").read_text().strip():
                    yield HEX64.sub(lambda m: m.group()[:12], folder)
            except OSError:
                continue


def _files(engine: Subject) -> Iterator[str]:
    """List everything below root and run directory, layers and containers included."""
    for top in (engine.root, engine.rundir):
        for folder, children, names in os.walk(top):
            # What layers contain is the image's; that the layer is there is what counts.
            children[:] = [c for c in children if not _is_content(folder, c)]
            if folder == str(engine.root / "init"):
                children.clear()  # a bounded number is kept: runtime/rootfs/init_layers.py
            for name in names + children:
                path = os.path.join(folder, name)
                if not VOLATILE.search(name):
                    yield f"{top.name}/{Path(path).relative_to(top)}"


def _is_content(folder: str, name: str) -> bool:
    return name in {"diff", "fs", "rootfs", "merged"} and bool(HEX64.search(folder))


def _descriptors(pid: int) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        kinds[HEX64.sub("ID", re.sub(r"\[\d+\]|\d+$", "", target))] += 1
    return kinds
