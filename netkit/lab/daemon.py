"""Start, probe and stop a daemon in a host's namespaces: its netkitd, or another engine's."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine
from netkit.client.failure import Failure
from netkit.errors import KernelError, NotFound
from netkit.kernel import netns
from netkit.lab.model import Places
from netkit.lab.mounts import entered
from netkit.lab.sweep import daemons, reap

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
LOG_LINES = 12
POLL = 0.02  # seconds


class Served(ABC):
    """A daemon of a host that answers as a Docker Engine at `socket`.

    Found again by where its files are: nothing about it is remembered here.
    """

    name: str

    def __init__(self, places: Places, host: str, socket: str, log: str) -> None:
        self.places, self.host = places, host
        self.socket, self.log = socket, Path(log)

    @abstractmethod
    def pids(self) -> list[int]:
        """Pids of it."""

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def engine(self) -> Engine:
        """A new connection; the caller closes it."""
        return Engine(parse_host(self.url, None))

    def answers(self) -> bool:
        engine = self.engine()
        try:
            engine.negotiate()
        except Failure:
            return False
        finally:
            engine.close()
        return True

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it unless it answers, and wait for an answer.  KernelError quotes its log."""
        if self.pids():
            if self.answers():
                return
            self.kill()  # it hangs, or is about to end
        pid = self._spawn(command, environ)
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            code = _ended(pid)
            if code is not None or time.monotonic() > deadline:
                why = f"ended with {code}" if code is not None else "does not answer"
                raise KernelError(f"{self.name} of {self.host} {why}:\n{self.tail()}")
            time.sleep(POLL)

    def _spawn(self, command: Sequence[str], environ: Mapping[str, str]) -> int:
        """Its pid.  Not by subprocess: the daemon outlives the object that would stand for it."""
        given = named(self.host, ["sh", "-c", 'cd / && exec "$@"', "sh", *command])
        argv = entered(self.places, self.host, given) or given
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netns.inside(self.places.netns(self.host)):
                return os.posix_spawnp(
                    argv[0],
                    argv,
                    environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, nothing, 0),
                        (os.POSIX_SPAWN_DUP2, output, 1),
                        (os.POSIX_SPAWN_DUP2, output, 2),
                    ],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=(signal.SIGPIPE,),  # Python ignores it, and that is inherited
                )
        finally:
            os.close(output)
            os.close(nothing)

    def stop(self) -> None:
        """Stop it as `systemctl stop` would; kill it if that takes more than 10 s."""
        pids = self._signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.pids():
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(POLL)
        reap(pids)

    def kill(self) -> None:
        """SIGKILL the daemon and nothing else, and wait until it has ended."""
        while pids := self._signal(signal.SIGKILL):
            time.sleep(POLL)
            reap(pids)

    def _signal(self, number: int) -> list[int]:
        pids = self.pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def tail(self) -> str:
        if not self.log.exists():
            return "(it has no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


class LabDaemon(Served):
    """The host's netkitd."""

    name = "netkitd"

    def __init__(self, places: Places, host: str) -> None:
        super().__init__(places, host, places.socket(host), places.log(host))

    def pids(self) -> list[int]:
        return daemons(self.places.run(self.host))

    def ensure(self, flags: Sequence[str]) -> None:
        """Start it if need be, and wait for an answer.  KernelError quotes its log."""
        config = Path(self.places.config(self.host))
        config.write_text("{}")
        command = [
            *program(), "--root", self.places.root(self.host), "--run",
            self.places.run(self.host), "--config", str(config), "-H", self.url, *flags,
        ]  # fmt: skip
        self.run(command, clean_environment())


def _ended(pid: int) -> int | None:
    """The exit code of a child that has ended; None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def program() -> list[str]:
    """netkitd of this installation.  NotFound if there is none."""
    beside = Path(sys.executable).parent / "netkitd"
    found = str(beside) if beside.exists() else shutil.which("netkitd")
    if not found:
        raise NotFound(f"netkitd is neither beside {sys.executable} nor in PATH")
    return [found]


def named(host: str, command: Sequence[str]) -> list[str]:
    """The command, in a UTS namespace of its own where the host name is `host`.

    The namespace ends with its last process: a restarted daemon gets another with the same name.
    It is set as the kernel takes it: hostname(1) refuses `_`, which is right in a lab.
    """
    script = 'printf %s "$0" > /proc/sys/kernel/hostname && exec "$@"'
    return ["unshare", "--uts", "sh", "-c", script, host, *command]


def clean_environment() -> dict[str, str]:
    """Ours, without what points clients at another daemon."""
    return {
        k: v for k, v in os.environ.items()
        if not k.startswith(("DOCKER_", "NETKIT_")) or k == "NETKIT_LOG"
    }  # fmt: skip
