"""Floors of many containers at once: conmon and runc by hand, on bundles that netkit made.

Neither network nor names nor rows: each container has a namespace with a loopback alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.peers import Peer
from bench.requests import removed, run, started

LIMIT = 60.0  # seconds for all of them


@dataclass
class Bare:
    """One container: a bundle, and once it runs its first process and conmon's pid."""

    bundle: Path
    state: Path  # of the runtime
    group: str  # its control group
    pid: int = 0
    monitor: int = 0

    @property
    def id(self) -> str:
        return self.bundle.name

    def conmon(self) -> list[str]:
        return [
            "conmon", "--api-version", "1", "-c", self.id, "-u", self.id, "-n", self.id,
            "-r", "/usr/sbin/runc", "-b", str(self.bundle), "-p", str(self.bundle / "pid"),
            "-P", str(self.bundle / "conmon.pid"), "-0", str(self.bundle),
            "-l", f"k8s-file:{self.bundle / 'log'}", "--exit-dir", str(self.bundle),
            "--full-attach", "--log-level", "error", "--no-sync-log",
            "--runtime-arg=--root", f"--runtime-arg={self.state}",
        ]  # fmt: skip


def starts(peer: Peer, count: int, repeats: int) -> list[float]:
    """`count` containers at once until the command of the last one runs, s."""
    with _bundles(peer, count) as bares:
        return [_once(bares)[0] for _ in range(repeats)]


def removals(peer: Peer, count: int, repeats: int) -> list[float]:
    """SIGKILL, the end of conmon, and `runc delete` of `count` at once, s."""
    with _bundles(peer, count) as bares:
        return [_once(bares)[1] for _ in range(repeats)]


def _once(bares: Sequence[Bare]) -> tuple[float, float]:
    begin = time.perf_counter()
    try:
        _start(bares)
    finally:
        middle = time.perf_counter()
        _remove(bares)
    return middle - begin, time.perf_counter() - middle


@contextmanager
def _bundles(peer: Peer, count: int) -> Iterator[list[Bare]]:
    """Bundles on the mounted file systems of containers of netkit's, which run meanwhile."""
    assert peer.engine is not None
    with TemporaryDirectory(prefix="nk-floor-", dir=peer.engine.rundir) as name:
        folder = Path(name)
        (folder / "state").mkdir()
        idents = run(peer, [started() for _ in range(count)])
        bares = []
        for n, ident in enumerate(idents):
            made = peer.engine.rundir / "bundles" / ident / "config.json"
            document = json.loads(made.read_text())
            for namespace in document["linux"]["namespaces"]:
                if namespace["type"] == "network":  # a new one, with nothing but a loopback
                    namespace.pop("path", None)
            document["linux"]["cgroupsPath"] += "-floor"
            bare = Bare(folder / f"c{n}", folder / "state", document["linux"]["cgroupsPath"])
            bare.bundle.mkdir()
            (bare.bundle / "config.json").write_text(json.dumps(document))
            bares.append(bare)
        yield bares
        run(peer, [removed(ident) for ident in idents])


def _start(bares: Sequence[Bare]) -> None:
    """Start all, and return once the commands of all run."""
    waiting, begun = {}, []
    poll = select.poll()
    for bare in bares:
        sync, theirs = os.pipe()
        env = {"PATH": os.environ["PATH"], "_OCI_SYNCPIPE": str(theirs)}
        begun.append(
            subprocess.Popen(bare.conmon(), pass_fds=(theirs,), env=env, cwd=bare.bundle,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             start_new_session=True)
        )  # fmt: skip
        os.close(theirs)
        poll.register(sync, select.POLLIN)
        waiting[sync] = bare
    fifos: set[int] = set()
    while waiting or fifos:
        ready = poll.poll(LIMIT * 1000)
        if not ready:
            raise RuntimeError(f"{len(waiting)} bare containers did not start")
        for fd, _ in ready:
            answer = os.read(fd, 65536)
            poll.unregister(fd)
            os.close(fd)
            if fd in fifos:  # runc's init goes on to the command
                fifos.discard(fd)
                continue
            bare = waiting.pop(fd)
            bare.pid = int(json.loads(answer)["data"])
            if bare.pid <= 0:
                raise RuntimeError(f"a bare container did not start: {answer.decode()}")
            bare.monitor = int((bare.bundle / "conmon.pid").read_text())
            fifo = os.open(bare.state / bare.id / "exec.fifo", os.O_RDONLY | os.O_NONBLOCK)
            fifos.add(fifo)
            poll.register(fifo, select.POLLIN)
    for process in begun:
        process.wait()


def _remove(bares: Sequence[Bare]) -> None:
    ends = []
    for bare in bares:
        with contextlib.suppress(ProcessLookupError):
            ends.append(os.pidfd_open(bare.monitor))
            os.kill(bare.pid, signal.SIGKILL)
    for fd in ends:
        select.select([fd], [], [], LIMIT)
        os.close(fd)
    deletes = [
        subprocess.Popen(["runc", "--root", str(bare.state), "delete", "--force", bare.id],
                         stderr=subprocess.DEVNULL)
        for bare in bares
    ]  # fmt: skip
    for process in deletes:
        process.wait()
