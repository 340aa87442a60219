"""Servers that do not answer: a caller waits once, and a queued write is not done later."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from netkit.cluster import client
from netkit.cluster.schema import NAME, SCHEMA
from netkit.errors import KernelError, Unreachable
from netkit.kernel.ovs.idl import Copy, Transaction, rows
from netkit.testing.waiting import eventually

pytestmark = pytest.mark.skipif(not shutil.which("ovsdb-server"), reason="needs openvswitch-switch")
PATIENCE = 30.0  # seconds


class Server(client.Server):
    connect: ClassVar[float] = 3.0


class Pair:
    """Two real servers of one cluster, over sockets in a folder; clients know the first.

    It is the leader, and takes long to find out that the other has ended.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        schema = folder / "schema"
        schema.write_text(json.dumps(SCHEMA))
        self._tool("ovsdb-tool", "create-cluster", "db1", str(schema), "unix:raft1")
        self.first = self._server(1)
        self._tool("ovsdb-tool", "join-cluster", "db2", NAME, "unix:raft2", "unix:raft1")
        self.second = self._server(2)
        succeeds(self._complete)
        for ms in (2000, 4000, 8000, 16000, 32000):  # at most twice as much each time
            succeeds(lambda ms=ms: self._ask(1, "cluster/change-election-timer", NAME, str(ms)))
            succeeds(lambda ms=ms: self._must_report(f"Election timer: {ms}"))

    def end(self) -> None:
        for process in (self.first, self.second):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def _server(self, number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["ovsdb-server", f"db{number}", f"--remote=punix:sock{number}", "-vconsole:off",
             f"--unixctl={self.folder}/ctl{number}"],
            cwd=self.folder, env=self._environment,
        )  # fmt: skip

    def _complete(self) -> None:
        for number in (1, 2):
            answer = self._ask(number, "cluster/status", NAME)
            if "Status: cluster member" not in answer or answer.count("unix:raft") < 3:
                raise KernelError(answer)

    def _must_report(self, words: str) -> None:
        if words not in (answer := self._ask(1, "cluster/status", NAME)):
            raise KernelError(answer)

    def _ask(self, number: int, *words: str) -> str:
        return self._tool("ovs-appctl", "-t", f"{self.folder}/ctl{number}", *words)

    def _tool(self, *argv: str) -> str:
        done = subprocess.run(
            argv, cwd=self.folder, env=self._environment, capture_output=True, text=True,
            timeout=20, check=False,
        )  # fmt: skip
        if done.returncode:
            raise KernelError(done.stderr)
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, **{f"OVS_{n}DIR": str(self.folder) for n in ("RUN", "LOG", "DB")}}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    try:
        yield pair
    finally:
        pair.end()


@pytest.fixture
def server(pair: Pair) -> Iterator[Server]:
    server = Server(f"unix:{pair.folder}/sock1")
    server.start()
    try:
        yield server
    finally:
        server.close()


def host(name: str) -> Callable[[Copy, Transaction], None]:
    """A write: this host is there."""

    def write(idl: Copy, transaction: Transaction) -> None:
        if name not in hosts(idl):
            row = transaction.insert(idl.tables["Host"])
            row.id, row.name, row.address = name, name, name

    return write


def hosts(idl: Copy) -> set[str]:
    return {row.id for row in rows(idl, "Host")}


def succeeds(act: Callable[[], object]) -> None:
    """Call it until it raises no KernelError."""
    eventually(lambda: (act(), True), PATIENCE, ignored=(KernelError,))


def refusal(server: Server, name: str) -> str:
    with pytest.raises(Unreachable) as caught:
        server.transact(host(name))
    return "tried" if "did not answer within" in str(caught.value) else "not tried"


def test_of_many_that_ask_without_most_servers_one_is_tried(pair: Pair, server: Server) -> None:
    succeeds(lambda: server.transact(host("before")))
    pair.second.send_signal(signal.SIGSTOP)
    names = [f"h{n}" for n in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        found = Counter(pool.map(lambda name: refusal(server, name), names))
    assert found == {"tried": 1, "not tried": 5}
    assert "before" in server.view(hosts)  # reading goes on
    pair.second.send_signal(signal.SIGCONT)
    succeeds(lambda: server.transact(host("after")))
    there = server.view(hosts)
    assert {"before", "after"} <= there
    assert len(there) <= 3  # what was tried may have happened; nothing else has


def test_a_server_that_hangs_is_found_out_by_who_writes(pair: Pair, server: Server) -> None:
    succeeds(lambda: server.transact(host("here")))
    pair.first.send_signal(signal.SIGSTOP)
    assert server.view(hosts) == {"here"}  # not noticed yet
    assert refusal(server, "never") == "tried"
    with pytest.raises(Unreachable, match="the cluster does not answer at unix:"):
        server.view(hosts, patience=0.0)
    pair.first.send_signal(signal.SIGCONT)
    succeeds(lambda: server.view(hosts, patience=0.0))


def test_of_those_that_ask_one_by_one_whether_it_is_there_only_the_first_waits_long(
    pair: Pair, server: Server
) -> None:
    succeeds(server.check)
    pair.first.send_signal(signal.SIGSTOP)
    took = []
    for _ in range(3):
        begin = time.monotonic()
        with pytest.raises(Unreachable, match="the cluster does not answer at unix:"):
            server.check()
        took.append(time.monotonic() - begin)
    assert took[0] >= Server.connect
    assert max(took[1:]) < Server.connect - 1, "a start of netkitd asks for each network"
    pair.first.send_signal(signal.SIGCONT)
    succeeds(server.check)


def test_a_waiting_caller_is_notified_when_the_connection_is_closed(pair: Pair) -> None:
    server = Server(f"unix:{pair.folder}/sock1")
    server.connect = 1000.0  # type: ignore[misc]
    server.start()
    succeeds(lambda: server.transact(host("here")))
    pair.second.send_signal(signal.SIGSTOP)
    errors: list[str] = []

    def ask() -> None:
        try:
            server.transact(host("never"))
        except KernelError as error:
            errors.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    server.close()
    asking.join(PATIENCE)
    assert len(errors) == 1


def test_nothing_fails_while_the_servers_of_a_cluster_change(pair: Pair) -> None:
    """A reader of `remotes` finds some at every instant; no request is refused."""
    one, two = (f"unix:{pair.folder}/sock{n}" for n in (1, 2))
    used, seen, names = client.Client("me"), set[bool](), [f"h{n}" for n in range(40)]
    used.use(one)
    stop = threading.Event()

    def status() -> None:
        while not stop.is_set():
            seen.add(bool(used.remotes))

    watching = threading.Thread(target=status)
    try:
        succeeds(used.look)
        watching.start()
        with ThreadPoolExecutor(1) as pool:
            writes = pool.map(lambda name: used._must().transact(host(name)), names)
            for turn in range(12):
                used.use((one, f"{one},{two}", two)[turn % 3])
                time.sleep(0.02)
            assert len([*writes]) == len(names)
        assert used._must().view(hosts) == set(names)
        assert used.remotes == two
    finally:
        stop.set()
        if watching.ident is not None:
            watching.join()
        used.close()
    assert seen == {True}


def test_a_caller_that_waits_for_lost_servers_is_served_by_the_new_ones(pair: Pair) -> None:
    used = client.Client("me")
    used.use(f"unix:{pair.folder}/missing")
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(lambda: used._must().view(hosts, patience=PATIENCE))
            time.sleep(0.3)  # it has found out that there is none
            assert not asked.done()
            used.use(f"unix:{pair.folder}/sock1")
            assert asked.result(PATIENCE) == set()
    finally:
        used.close()
