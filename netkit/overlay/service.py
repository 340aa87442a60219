"""netkitd's side of the overlay: launch its process, find it, keep it running, call it.

    overlay = Service(Folders(root / "weave", run / "weave"))
    overlay.launch(Settings(launch=new_launch(), peers=resolved("h1")))
    overlay.sync(networks, endpoints)         # whenever netkitd starts, or the process was started
    with overlay.channel() as channel:
        address = channel.call(verbs.Allocate(ident=container, seconds=20))
    overlay.ensure()                          # often: a process that died is started again

The process outlives netkitd, and goes on after a reboot as soon as `ensure` is called.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from netkit.errors import Conflict, KernelError, NotFound
from netkit.overlay import verbs
from netkit.overlay.client import ABSENT, Channel, listens
from netkit.overlay.core import Settings
from netkit.overlay.folders import Folders
from netkit.overlay.running import Running
from netkit.overlay.verbs import Endpoint, Known, Network

START = 20.0  # seconds until it has to answer: an earlier one's workers end first
POLL = 0.02
END = 10.0  # seconds until a process that was asked to stop is killed
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts to start one that ends at once


def new_launch() -> str:
    """For `Settings.launch`."""
    return secrets.token_hex(8)


class Service:
    """One thread at a time; `home` is where it runs, if not in the caller's network namespace."""

    def __init__(self, folders: Folders, *, home: str = "") -> None:
        self.folders = folders
        self._home = home
        self._popen: subprocess.Popen[bytes] | None = None  # if we started it
        self._pause, self._tried = FIRST_PAUSE, float("-inf")

    # -- coming and going ------------------------------------------------------------------------

    def launch(self, settings: Settings) -> None:
        """Start it, and wait until it answers.  Conflict: it runs.  KernelError: why not."""
        if self.running:
            raise Conflict("the weave overlay runs on this host already: netkit weave stop")
        self.folders.write(settings)
        try:
            self._start()
        except BaseException:
            self.folders.cancel_launch()
            raise

    def former(self) -> Settings | None:
        """What it was launched with before it was stopped; None: it never was, or was reset since.

        StoreError: the file is damaged.
        """
        return self.folders.read_former()

    @property
    def launched(self) -> bool:
        """Whether it is to run: from `launch` to `stop`, over reboots."""
        return self.folders.settings.exists()

    @property
    def running(self) -> bool:
        return self._answers()

    def _answers(self) -> bool:
        return listens(self.folders.control)

    def ensure(self) -> bool:
        """Start it if it should run and does not; whether it was started, so that `sync` is due.

        KernelError: it does not start; it is not tried again before a pause is over.
        """
        if self._popen is not None:
            self._popen.poll()  # one that has ended is no zombie
        if not self.launched or self.running:
            return False
        if time.monotonic() < self._tried + self._pause:
            return False
        self._tried = time.monotonic()
        try:
            self._start()
        except KernelError:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            raise
        self._pause = FIRST_PAUSE
        return True

    def stop(self, networks: Sequence[Network] = ()) -> None:
        """End it: networks go on on this host.  NotFound: it was not launched.

        `networks`: of this host, from which is removed what a process has set that died.
        """
        if not self.launched and not self.running:
            raise NotFound(ABSENT)
        self._finish(verbs.Stop(), networks)
        self.folders.forget_launch()

    def reset(self, seconds: float = 10.0, networks: Sequence[Network] = ()) -> None:
        """End it, and have this host be a new peer; what it owned goes to others in that time.

        As `stop`; also where its database is damaged, or it was not launched.
        """
        if self.launched and not self.running:
            with suppress(KernelError):
                self._start()
        self._finish(verbs.Reset(seconds=seconds), networks)
        self.folders.forget_state()

    def _withdraw(self, networks: Sequence[Network]) -> None:
        """Take back what a process that is gone has set in the kernel.  KernelError."""
        from netkit.overlay.fabric import Fabric, NetworkTable, Table  # netkitd starts without

        tables = (
            NetworkTable(vni=n.vni, bridge=n.bridge, tap=n.tap, vxlan=n.vxlan) for n in networks
        )
        with Fabric(self._home) as fabric:
            fabric.apply(Table(networks=tuple(tables)))
            fabric.remove()

    # -- calls -----------------------------------------------------------------------------------

    def channel(self, patience: float | None = None) -> Channel:
        """See `Channel`.  NotFound: it does not run."""
        return Channel(self.folders.control, patience)

    def call(self, verb: Known, patience: float | None = None) -> Any:
        """One call, see `Channel.call`."""
        with self.channel(patience) as channel:
            return channel.call(verb)

    def sync(self, networks: Sequence[Network], endpoints: Sequence[Endpoint]) -> None:
        """This is all there is on this host."""
        with self.channel() as channel:
            channel.call(verbs.Networks(networks=tuple(networks)))
            channel.call(verbs.Endpoints(endpoints=tuple(endpoints)))

    # -- the process -----------------------------------------------------------------------------

    def _start(self) -> None:
        folders = self.folders
        folders.make()
        package = Path(__file__).resolve().parents[2]  # the code that we are, not another one
        argv = [
            *(["nsenter", f"--net={self._home}"] if self._home else []),
            sys.executable, "-P", "-m", "netkit.overlay",
            "--state", str(folders.state), "--run", str(folders.run),
        ]  # fmt: skip
        try:
            with folders.errors.open("wb") as out:
                self._popen = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                    env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(package)},
                    start_new_session=True,  # our terminal's signals and our end are not its
                )  # fmt: skip
        except OSError as e:
            raise KernelError(f"the weave overlay cannot be started: {e}") from e
        self._wait_started()

    def _wait_started(self) -> None:
        assert self._popen is not None
        deadline = time.monotonic() + START
        while not self._answers():
            if self._popen.poll() is not None:
                if self._answers():
                    return  # another one was quicker
                raise KernelError(f"the weave overlay does not start: {self._last_words()}")
            if time.monotonic() > deadline:
                self._popen.kill()
                self._popen.wait()
                raise KernelError(
                    f"the weave overlay does not answer within {START:.0f} s, see"
                    f" {self.folders.log}"
                )
            time.sleep(POLL)

    def _last_words(self) -> str:
        lines = self.folders.errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"see {self.folders.log}"

    def _finish(self, verb: Known, networks: Sequence[Network]) -> None:
        try:
            self._end(verb)
        except NotFound:
            self._withdraw(networks)
        else:
            if self.folders.pid.exists():  # it removes that last: it was killed before
                self._withdraw(networks)
        for left in (self.folders.pid, self.folders.control):
            left.unlink(missing_ok=True)

    def _end(self, verb: Known) -> None:
        """NotFound: no process runs.  One that does not end by itself is killed."""
        process = Running.find(self.folders.pid)
        if process is None:
            raise NotFound(ABSENT)
        with process:
            with suppress(KernelError, NotFound):  # it may end before the answer is out
                self.call(verb)
            if not process.wait(END):
                process.kill(END)
        self._reap()

    def kill(self) -> int | None:
        """End a process that does not answer, with its workers, at once; its pid, None: none runs.

        What it has set in the kernel stays, and `ensure` starts the next one.  KernelError: it has
        not ended.
        """
        process = Running.find(self.folders.pid)
        if process is None:
            return None
        with process:
            if not process.kill(END):
                raise KernelError(
                    f"the weave overlay's process {process.pid} was killed and has not ended: it"
                    " waits for a disk or a device"
                )
        self._reap()
        return process.pid

    def _reap(self) -> None:
        if self._popen is not None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(END)
