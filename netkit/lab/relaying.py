"""The relay of a link: a process in the underlay's namespace, files in its run folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from netkit.errors import KernelError
from netkit.gone import if_there
from netkit.kernel import netns
from netkit.kernel.relay import worker
from netkit.lab import fabric
from netkit.lab.daemon import clean_environment
from netkit.lab.model import UNDERLAY, Places
from netkit.model.impairment import TwoWay, spelled

READY_SECONDS = 10.0
ASK_SECONDS = 2.0
POLL = 0.01


def part(port: str, letter: str) -> str:
    """Name a device that belongs to a relay: b, its bridge, n and f, near and far from the host."""
    return fabric.short(f"{port}~{letter}")


def write(file: Path, values: object) -> None:
    """As JSON: all of it or nothing."""
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(values))
    temporary.replace(file)


class Relay:
    """The relay of a link: found by its files, nothing about it is remembered here."""

    def __init__(self, places: Places, host: str, interface: str) -> None:
        self.places, self.name = places, f"{host}@{interface}"
        self.port = fabric.port(host, interface)
        self.folder = Path(places.run(UNDERLAY))
        self.socket = str(self.folder / f"{self.name}.sock")
        self.config = self.folder / f"{self.name}.json"
        self.log = Path(places.folder) / f"{self.name}.relay.log"

    def report(self, request: str = "report") -> Mapping[str, object] | None:
        """None if it does not run, or does not answer."""
        with suppress(OSError, ValueError):
            return worker.ask(self.socket, request, ASK_SECONDS)
        return None

    def ensure(self, way: TwoWay) -> None:
        """Have it run, and do this.  KernelError quotes its log."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not self.config.exists() or self.config.read_text() != json.dumps(spelled(way))
        if fresh:
            write(self.config, spelled(way))
        if self.report("reload" if fresh else "report") is not None:
            return
        self.stop()
        write(self.config, spelled(way))
        self._spawn()
        deadline = time.monotonic() + READY_SECONDS
        while self.report() is None:
            if time.monotonic() > deadline:
                raise KernelError(f"relay of {self.name} does not answer:\n{self._tail()}")
            time.sleep(POLL)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-500:] if self.log.exists() else "(no log)"

    def _spawn(self) -> None:
        """Not by subprocess: it outlives us."""
        script = 'cd / && "$@" &'  # a child of init
        devices = part(self.port, "n"), part(self.port, "f")
        own = [sys.executable, "-m", "netkit.kernel.relay", str(self.folder), self.name, *devices]
        argv = ["sh", "-c", script, "sh", *own]
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            with netns.inside(self.places.netns(UNDERLAY)):
                pid = os.posix_spawnp(
                    argv[0], argv, clean_environment(), setsid=True, setsigmask=(),
                    setsigdef=(signal.SIGPIPE,),
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, output, 1),
                        (os.POSIX_SPAWN_DUP2, output, 2),
                    ],
                )  # fmt: skip
        finally:
            os.close(output)
        os.waitpid(pid, 0)

    def pids(self) -> list[int]:
        """Pids of the supervisor and the worker, by their arguments."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with if_there():
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if [str(self.folder).encode(), self.name.encode()] == words[3:5]:
                        found.append(int(entry.name))
        return found

    def stop(self) -> None:
        """Kill it, and have no files of it left."""
        if not self.config.exists():
            return
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL)
        for file in (self.config, Path(self.socket)):
            file.unlink(missing_ok=True)
