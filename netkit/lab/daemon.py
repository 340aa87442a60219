"""One host's netkitd: started in its namespace, asked whether it answers, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from netkit.cli.endpoint import parse_host
from netkit.cli.engine import Engine
from netkit.cli.failure import Failure
from netkit.errors import KernelError, NotFound
from netkit.kernel import netns
from netkit.lab.model import Places
from netkit.lab.sweep import daemons

READY_SECONDS = 20.0
STOP_SECONDS = 10.0
LOG_LINES = 12
POLL = 0.02  # seconds


class LabDaemon:
    """Found again by its run folder: nothing about it is remembered here."""

    def __init__(self, places: Places, host: str) -> None:
        self.places, self.host = places, host
        self.socket = places.socket(host)
        self.log = Path(places.log(host))

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

    def pids(self) -> list[int]:
        return daemons(self.places.run(self.host))

    def ensure(self, flags: Sequence[str]) -> None:
        """Running and answering.  KernelError ends with the last lines of its log."""
        if self.pids():
            if self.answers():
                return
            self.kill()  # it hangs, or is about to end
        started = self._spawn(flags)
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            code = started.poll()
            if code is not None or time.monotonic() > deadline:
                why = f"ended with {code}" if code is not None else "does not answer"
                raise KernelError(f"netkitd of {self.host} {why}:\n{self.tail()}")
            time.sleep(POLL)

    def _spawn(self, flags: Sequence[str]) -> subprocess.Popen[bytes]:
        config = Path(self.places.config(self.host))
        config.write_text("{}")
        command = [
            *program(), "--root", self.places.root(self.host), "--run",
            self.places.run(self.host), "--config", str(config), *flags,
        ]  # fmt: skip
        with self.log.open("ab") as log, netns.inside(self.places.netns(self.host)):
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, cwd="/", env=clean_environment(),
            )  # fmt: skip

    def stop(self) -> None:
        """As `systemctl stop` would; killed if that takes more than 10 s."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.pids():
            if time.monotonic() > deadline:
                self.kill()
                return
            time.sleep(POLL)

    def kill(self) -> None:
        """SIGKILL the daemon and nothing else, and wait until it is gone."""
        while self.pids():
            self._signal(signal.SIGKILL)
            time.sleep(POLL)

    def _signal(self, number: int) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def tail(self) -> str:
        if not self.log.exists():
            return "(it has no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


def program() -> list[str]:
    """netkitd of this installation.  NotFound if there is none."""
    beside = Path(sys.executable).parent / "netkitd"
    found = str(beside) if beside.exists() else shutil.which("netkitd")
    if not found:
        raise NotFound(f"netkitd is neither beside {sys.executable} nor in PATH")
    return [found]


def clean_environment() -> dict[str, str]:
    """Ours, without what points clients at another daemon."""
    return {
        k: v for k, v in os.environ.items()
        if not k.startswith(("DOCKER_", "NETKIT_")) or k == "NETKIT_LOG"
    }  # fmt: skip
