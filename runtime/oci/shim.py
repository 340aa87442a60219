"""Run containers with runc (or crun) under conmon: one bundle per container, all state on disk.

    run/bundles/ID/config.json     the OCI configuration
                   process.json    pids and start times of first process and conmon; the group
                   attach          conmon's socket: output out, stdin in
                   ctl             conmon's fifo: terminal size, reopening the log
                   oom             exists if the OOM killer ended the container
    run/exits/ID                   exit status, written by conmon
    run/runtime/ID                 the OCI runtime's own state

conmon outlives the daemon, so a new Shim on the same directories finds running containers.
Behaviour of conmon 2.1.6 and runc 1.1.5 that this relies on is tested by
tests/netns/test_oci_shim.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netkit.errors import InvalidSpec, NetkitError
from netkit.gone import if_there
from runtime.filetree.small_file import content
from runtime.filetree.spread import spread
from runtime.oci import binaries, conmon
from runtime.oci.cgroup_lock import CgroupLock
from runtime.oci.cgroups import Cgroups
from runtime.oci.errors import StartFailed, runtime_error
from runtime.oci.process import Process, readable
from runtime.oci.process_file import ProcessFiles, Running
from runtime.oci.recent_starts import RecentStarts

RUN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    code: int  # 128+n for signal n
    finished_ns: int  # since the epoch
    oom: bool


class Shim:
    """Thread-safe across containers; calls for one container must not overlap."""

    def __init__(
        self, run: Path, cgroups: Cgroups, *, runtime: str = "auto", required: bool = True
    ) -> None:
        """InvalidSpec where a program is missing, unless no container is to run: not `required`."""
        self.bundles, self.exits, self.state = run / "bundles", run / "exits", run / "runtime"
        for folder in (self.bundles, self.exits, self.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            spread(folder)
        self.cgroups = cgroups
        self.runtime = self.conmon = ""
        with suppress(*([] if required else [InvalidSpec])):
            self.runtime = binaries.runtime(runtime, cgroups)
            self.conmon = binaries.find("conmon")
        self._recent = RecentStarts()
        self._lock = CgroupLock()
        self._files = ProcessFiles()
        self._begun: dict[str, conmon.Launch] = {}  # by container, between `begin` and `create`

    # create, start, stop, delete

    def begin(
        self, id: str, *, log: Path | None, terminal: bool, stdin: bool, leave_stdin_open: bool
    ) -> None:
        """Begin a start: conmon is loaded while the caller prepares what `create` needs.

        `create` or `withdraw` is due.
        """
        self._forget(id)
        self.bundle(id).mkdir(mode=0o700)
        args = self._arguments(id, log, terminal=terminal)
        args += [*(["-i"] if stdin else []), *(["--leave-stdin-open"] if leave_stdin_open else [])]
        try:
            self._begun[id] = conmon.Launch(self.conmon, args, self.bundle(id), self._lock)
        except BaseException:
            self._forget(id)
            raise

    def create(
        self, id: str, spec: Mapping[str, Any], meanwhile: Callable[[], object] = lambda: None
    ) -> Process:
        """Create the container up to its command, which waits for `start`; its first process.

        `meanwhile` is called while the runtime works; after what it raises, `delete` is due.
        StartFailed (or BadCommand) with the runtime's message; only the bundle is left then.
        """
        pid = self._begun.pop(id).create(spec, meanwhile)
        init = Process.of(pid)
        if init is None:
            raise StartFailed(f"container {id[:12]} exited before it was started")
        monitor = Process.of(int(content(self.bundle(id) / "conmon.pid")))
        group = str(spec["linux"]["cgroupsPath"])
        self._files.write(self.bundle(id), Running(init=init, monitor=monitor), group)
        return init

    def withdraw(self, id: str) -> None:
        """Undo `begin`; does nothing after `create`."""
        if launch := self._begun.pop(id, None):
            launch.abandon()
            self._forget(id)

    def _arguments(self, id: str, log: Path | None, *, terminal: bool) -> list[str]:
        """Of conmon."""
        bundle = self.bundle(id)
        # conmon writes the log (k8s-file is CRI's format), so that no output is lost while the
        # daemon is down.
        # --full-attach: the attach socket is in the bundle, not a link to it in another folder.
        # --no-sync-log: else conmon exits only after an fsync of the log, and delays the exit.
        return [
            "--api-version", "1", "-c", id, "-u", id, "-n", id[:12],
            "-r", self.runtime, "-b", str(bundle), "-p", str(bundle / "pid"),
            "-P", str(bundle / "conmon.pid"), "-0", str(bundle),
            "-l", f"k8s-file:{log}" if log else "none",
            "--exit-dir", str(self.exits), "--full-attach", "--log-level", "error",
            "--runtime-arg=--root", f"--runtime-arg={self.state}",
            *(["-t"] if terminal else []),
            "--no-sync-log",
        ]  # fmt: skip

    def start(self, id: str) -> None:
        """Let the container's command run.

        runc's init blocks on a fifo until it is opened and read.  That is all that `runc start`
        does; doing it here saves a process per start.
        """
        # Without the fifo (another runtime, or another location of it) `start` is run as a command.
        fifo = self.state / id / "exec.fifo"
        running = self.running(id)
        if running:
            self._recent.begin(running.init)
        try:
            fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            self._run("start", id)
            return
        gone = running.init.ended_fd() if running else None
        try:
            # a fifo that init never opened does not become readable: wait for its exit, too
            watched = [fd] if gone is None else [fd, gone]
            if fd not in readable(watched, RUN_SECONDS) or not os.read(fd, 1):
                raise StartFailed(f"container {id[:12]} exited before its command ran")
        finally:
            os.close(fd)
            if gone is not None:
                os.close(gone)
        with suppress(FileNotFoundError):
            fifo.unlink()

    def signal(self, id: str, number: int) -> bool:
        """Signal the first process, once it handles signals (recent_starts); False if it exited."""
        running = self.running(id)
        if running is None:
            return False
        self._recent.wait(running.init, number)
        return running.init.signal(number)

    def pause(self, id: str) -> None:
        self._run("pause", id)

    def resume(self, id: str) -> None:
        self._run("resume", id)

    def update(self, id: str, resources: Mapping[str, Any]) -> None:
        """Change the limits of a running container; `resources` as in the runtime specification."""
        self._run("update", "--resources", "-", id, stdin=json.dumps(resources))

    def delete(self, id: str) -> None:
        """Kill the container if it runs, and remove its cgroups, state and bundle.  Idempotent.

        For a container that has exited this does what `runc delete` would, without a process.
        Processes that outlived the first one (--pid=host, or a container in its PID namespace) are
        killed.
        """
        running = self.running(id)
        group = self._files.cgroup(self.bundle(id))
        if (running and running.init.alive) or (group and self.cgroups.processes(group)):
            with suppress(NetkitError):
                self._run("delete", "--force", id)
            if running:
                running.init.wait_gone(RUN_SECONDS)
        if group:
            self.cgroups.remove(group)
        shutil.rmtree(self.state / id, ignore_errors=True)
        # conmon exits once every writer of the container's output has closed it: a process that
        # inherited stdout could keep it running for ever.
        if running and running.monitor and not running.monitor.wait_gone(1.0):
            running.monitor.signal(15)
        self._forget(id)

    def abort(self, id: str) -> None:
        """Delete a container whose creation was cut short with an earlier daemon process.

        Its conmon and runtime may still run, and would complete the creation after the clean-up:
        they are killed first.  Looked for twice: one may fork and exit while /proc is read.
        """
        deadline, look = time.monotonic() + RUN_SECONDS, self._creating_processes
        while (busy := look(id) or look(id)) and time.monotonic() < deadline:
            for process in busy:
                process.signal(9)
                process.wait_gone(1.0)
        self.delete(id)

    def _creating_processes(self, id: str) -> list[Process]:
        """conmon and runtime processes that name the container in their arguments."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with if_there():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                tool = words[0].rpartition(b"/")[2]
                ours = tool in {b"conmon", os.fsencode(Path(self.runtime).name)}
                named = id.encode() in words and os.fsencode(self.state) in b"\0".join(words)
                if ours and named and (process := Process.of(int(entry.name))):
                    found.append(process)
        return found

    def _forget(self, id: str) -> None:
        self._files.remove(self.bundle(id))
        shutil.rmtree(self.bundle(id), ignore_errors=True)
        with suppress(FileNotFoundError):
            (self.exits / id).unlink()

    # state

    def bundle(self, id: str) -> Path:
        return self.bundles / id

    def leftovers(self) -> set[str]:
        """Ids of all containers with a bundle or runtime state, running or not."""
        return {p.name for folder in (self.bundles, self.state) for p in folder.iterdir()}

    def remains(self, id: str) -> bool:
        """Does the container have a bundle or runtime state, running or not?"""
        return (self.bundles / id).exists() or (self.state / id).exists()

    def running(self, id: str) -> Running | None:
        return self._files.running(self.bundle(id))

    def alive(self, id: str) -> bool:
        running = self.running(id)
        return running is not None and running.init.alive

    def exit_status(self, id: str) -> ExitStatus | None:
        path = self.exits / id
        try:
            code = int(content(path))
            finished = path.stat().st_mtime_ns
        except (FileNotFoundError, ValueError):
            return None
        oom = (self.bundle(id) / "oom").exists()
        return ExitStatus(code=code, finished_ns=finished, oom=oom)

    def paused(self, id: str) -> bool:
        group = self._files.cgroup(self.bundle(id))
        return bool(group) and self.cgroups.frozen(group)

    def processes(self, id: str) -> list[int]:
        group = self._files.cgroup(self.bundle(id))
        return self.cgroups.processes(group) if group else []

    # control of conmon

    def resize(self, id: str, height: int, width: int) -> None:
        conmon.resize(self.bundle(id), height, width)

    def reopen_log(self, id: str) -> None:
        """Make conmon reopen its log, after the file was renamed."""
        conmon.reopen_log(self.bundle(id))

    def command(self, *args: str) -> list[str]:
        return [self.runtime, "--root", str(self.state), *args]

    def _run(self, *args: str, stdin: str = "") -> None:
        try:
            done = subprocess.run(
                self.command(*args),
                input=stdin,
                capture_output=True,
                text=True,
                timeout=RUN_SECONDS,
                check=False,
                env={"PATH": binaries.SEARCH},
            )
        except subprocess.TimeoutExpired:
            raise StartFailed(
                f"OCI runtime {args[0]} did not finish within {RUN_SECONDS:.0f} s"
            ) from None
        if done.returncode:
            raise runtime_error(args[0], done.stderr)
