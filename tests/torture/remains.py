"""The state of a lab, seen from outside: per host what an engine can leave, and what is shared.

To the leak oracle's list come bridges, ports and flows of Open vSwitch, rows of the local database
(SQLite) and rows of the cluster.  Everything is a line, so that two pictures differ like texts.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from netkit.lab.running import RunningLab
from tests import oracle
from tests.labs import order
from tests.torture.scenes import OVS, Scene

SHARED = {
    "Host": ("id", "address"),
    "Network": ("id", "name", "subnet"),
    "Address": ("address", "holder", "owner"),
    "Endpoint": ("id", "sandbox", "address", "mac", "names"),
}
WORDS = {"container": "id, name", "image": "id"}  # of tables whose documents have times in them
SETTLE_SECONDS = 30.0
# In OVN a cookie is that of a row, which may be made anew, and these registers are zones of
# connection tracking, which ovn-controller chooses.
CHOSEN = re.compile(r"^cookie=\w+, |set_field:0x\w+->reg1[123]\b,?")
# The addresses of other servers that it was started with, of those there were then.
NORTHD = re.compile(r"(ovn-northd) .*")


class Subject:
    """An oracle.Subject: one host of a lab."""

    def __init__(self, lab: RunningLab, host: str) -> None:
        self._daemon = lab[host].daemon
        self.root, self.rundir = Path(lab.places.root(host)), Path(lab.places.run(host))
        self.netns = lab.places.namespace(host)

    @property
    def pid(self) -> int:
        return next(iter(self._daemon.pids()), 0)

    def running(self) -> bool:
        return bool(self.pid)


@dataclass(frozen=True)
class Picture:
    hosts: dict[str, oracle.Snapshot]
    lines: frozenset[str]

    def differences(self, later: Picture) -> list[str]:
        """List what `later` has more, or has lost."""
        found = [f"left: {line}" for line in sorted(later.lines - self.lines)]
        found += [f"missing: {line}" for line in sorted(self.lines - later.lines)]
        for name, before in self.hosts.items():
            after = later.hosts[name]
            found += [f"left: {name}: {line}" for line in before.leaked(after)]
            found += [f"missing: {name}: {line}" for line in before.lost(after)]
        return found


def picture(lab: RunningLab, scene: Scene = OVS) -> Picture:
    """Raises KernelError while a host does not answer."""
    hosts = order.hosts(lab)
    shots = {host: oracle.snapshot(Subject(lab, host)) for host in hosts}
    return Picture(
        {host: _own(shot) for host, shot in shots.items()},
        frozenset(
            [*_shared(lab), *scene.lines(lab), *(line for host in hosts for line in _of(lab, host))]
        ),
    )


def assert_clean(lab: RunningLab, before: Picture, scene: Scene = OVS) -> None:
    """Fails with the list of differences unless all of them go in time."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while found := before.differences(picture(lab, scene)):
        if time.monotonic() > deadline:
            raise AssertionError("the lab is not as before:\n  " + "\n  ".join(found))
        time.sleep(0.25)


def _own(shot: oracle.Snapshot) -> oracle.Snapshot:
    """Drop sockets that Open vSwitch leaves when it is killed, and what ovn-northd is given."""
    return replace(
        shot,
        files=frozenset(f for f in shot.files if "/ovs/" not in f),
        processes=frozenset(NORTHD.sub(r"\1", p) for p in shot.processes),
    )


def _of(lab: RunningLab, host: str) -> Iterator[str]:
    for bridge in lab[host].run("ovs-vsctl", "list-br").split():
        yield f"{host}: bridge {bridge}"
        for port in lab[host].run("ovs-vsctl", "list-ports", bridge).split():
            yield f"{host}: port {port} of {bridge}"
        dump = ("ovs-ofctl", "-O", "OpenFlow14", "--names", "--no-stats", "dump-flows", bridge)
        for flow in lab[host].run(*dump).splitlines():
            bare = CHOSEN.sub("", flow.strip())
            yield f"{host}: flow of {bridge}: {bare}"
    yield from (f"{host}: {line}" for line in _database(Path(lab.places.root(host)) / "netkit.db"))


def _database(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in db.execute(f"SELECT {WORDS.get(table, '*')} FROM {table}"):
                yield f"row of {table}: {row}"


def _shared(lab: RunningLab) -> Iterator[str]:
    for table, columns in SHARED.items():
        for row in order.rows(lab, table, *columns):
            yield f"cluster: row of {table}: {row}"
