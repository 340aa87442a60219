"""runc (or crun) under conmon: one bundle folder per container, all state on disk.

    run/bundles/ID/config.json     what the runtime is told
                   process.json    who it became: pids with their start times
                   attach          conmon's socket: output out, stdin in
                   ctl             conmon's fifo: terminal size, reopening the log
                   oom             there, if the kernel killed it for memory
    run/exits/ID                   exit status, written by conmon at the end
    run/runtime/ID                 the runtime's own state

conmon outlives us, so a new Shim on the same folder finds everything again.  Facts about conmon
2.1.6 and runc 1.1.5 that this relies on are pinned by tests/netns/test_oci_shim.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netkit.errors import NetkitError
from netkit.gone import if_there
from runtime.oci import binaries, conmon
from runtime.oci.cgroups import Cgroups
from runtime.oci.errors import StartFailed, failure
from runtime.oci.process import Process, readable
from runtime.oci.recent_starts import RecentStarts

RUN_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    code: int  # 128+n for signal n
    finished_ns: int  # since the epoch
    oom: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    init: Process
    monitor: Process | None


class Shim:
    """Thread-safe: the calls for one container must not overlap, those for several may."""

    def __init__(self, run: Path, cgroups: Cgroups, *, runtime: str = "auto") -> None:
        self.bundles, self.exits, self.state = run / "bundles", run / "exits", run / "runtime"
        for folder in (self.bundles, self.exits, self.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.cgroups = cgroups
        self.runtime = binaries.runtime(runtime, cgroups)
        self.conmon = binaries.find("conmon")
        self._recent = RecentStarts()

    # one container's life

    def create(
        self,
        id: str,
        spec: Mapping[str, Any],
        *,
        log: Path | None,
        stdin: bool,
        leave_stdin_open: bool,
    ) -> Process:
        """Everything but the user's command runs; it waits for `start`.

        StartFailed (or BadCommand) with the runtime's words; nothing is left then but the bundle.
        """
        bundle = self.bundle(id)
        self._forget(id)
        bundle.mkdir(mode=0o700)
        (bundle / "config.json").write_text(json.dumps(spec))
        # conmon writes the log (k8s-file is CRI's format), so the daemon may die and nothing is
        # lost.
        # --full-attach: the attach socket is in the bundle, not a link to it in another folder.
        # --no-sync-log: else the end of a container waits until its log is on the disk.
        args = [
            "--api-version", "1", "-c", id, "-u", id, "-n", id[:12],
            "-r", self.runtime, "-b", str(bundle), "-p", str(bundle / "pid"),
            "-P", str(bundle / "conmon.pid"), "-0", str(bundle),
            "-l", f"k8s-file:{log}" if log else "none",
            "--exit-dir", str(self.exits), "--full-attach", "--log-level", "error",
            "--runtime-arg=--root", f"--runtime-arg={self.state}",
            *(["-t"] if spec["process"]["terminal"] else []),
            *(["-i"] if stdin else []),
            *(["--leave-stdin-open"] if leave_stdin_open else []),
            "--no-sync-log",
        ]  # fmt: skip
        pid = conmon.start(self.conmon, args, bundle)
        init = Process.of(pid)
        if init is None:
            raise StartFailed(f"container {id[:12]} ended before it was started")
        monitor = Process.of(int((bundle / "conmon.pid").read_text()))
        self._note(id, init, monitor)
        return init

    def start(self, id: str) -> None:
        """Let the user's command run.

        runc's first process waits for somebody to read its fifo: what `runc start` does, without
        another process.
        """
        # A runtime that has no such fifo, or has removed it, is asked to start the container
        # itself.
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
            # a fifo nobody ever opened for writing is never readable: look whether it is dead
            watched = [fd] if gone is None else [fd, gone]
            if fd not in readable(watched, RUN_SECONDS) or not os.read(fd, 1):
                raise StartFailed(f"container {id[:12]} ended before its command ran")
        finally:
            os.close(fd)
            if gone is not None:
                os.close(gone)
        with suppress(FileNotFoundError):
            fifo.unlink()

    def signal(self, id: str, number: int) -> bool:
        """Signal the first process, once it can take it (recent_starts); False if it is gone."""
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
        """New limits for a running container; `resources` as in the runtime specification."""
        self._run("update", "--resources", "-", id, stdin=json.dumps(resources))

    def delete(self, id: str) -> None:
        """End it if it runs, and take away what is left.  Nothing to do if there is nothing.

        What `runc delete` would do for a container that has ended, without another process: its
        cgroups and its state folder.  Processes that outlived the first one (--pid=host, or a
        container in its pid namespace) are killed.
        """
        running = self.running(id)
        group = self._cgroup(id)
        if (running and running.init.alive) or (group and self.cgroups.processes(group)):
            with suppress(NetkitError):
                self._run("delete", "--force", id)
            if running:
                running.init.wait_gone(RUN_SECONDS)
        if group:
            self.cgroups.remove(group)
        shutil.rmtree(self.state / id, ignore_errors=True)
        # conmon ends when all writers of the container's output have: it may be kept for ever.
        if running and running.monitor and not running.monitor.wait_gone(1.0):
            running.monitor.signal(15)  # e.g. a grandchild holds the container's stdout
        self._forget(id)

    def abort(self, id: str) -> None:
        """`delete` for one whose creation another netkitd began and did not live to see.

        Its conmon and runtime may be at it still, and would finish after we have cleaned up.
        """
        deadline = time.monotonic() + RUN_SECONDS
        while (busy := self._makers(id)) and time.monotonic() < deadline:
            for process in busy:
                process.signal(9)
                process.wait_gone(1.0)
        self.delete(id)

    def _makers(self, id: str) -> list[Process]:
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
        shutil.rmtree(self.bundle(id), ignore_errors=True)
        with suppress(FileNotFoundError):
            (self.exits / id).unlink()

    # looking

    def bundle(self, id: str) -> Path:
        return self.bundles / id

    def leftovers(self) -> set[str]:
        """Ids of everything that has a bundle or runtime state, alive or not."""
        return {p.name for folder in (self.bundles, self.state) for p in folder.iterdir()}

    def remains(self, id: str) -> bool:
        """Has it a bundle or runtime state, alive or not?"""
        return (self.bundles / id).exists() or (self.state / id).exists()

    def running(self, id: str) -> Running | None:
        try:
            doc = json.loads((self.bundle(id) / "process.json").read_text())
            monitor = Process(*doc["monitor"]) if doc["monitor"] else None
            return Running(init=Process(*doc["init"]), monitor=monitor)
        except (FileNotFoundError, ValueError, LookupError, TypeError):  # there is none, or damaged
            return self._unnoted(id)

    def _unnoted(self, id: str) -> Running | None:
        """We were killed between conmon's start and our note: read what conmon noted itself."""
        try:
            init = Process.of(int((self.bundle(id) / "pid").read_text()))
            monitor = Process.of(int((self.bundle(id) / "conmon.pid").read_text()))
        except (FileNotFoundError, ValueError):
            return None
        # a recycled pid is in another session and group than the container it is taken for
        if init is None or not self._is_of(init.pid, id):
            return None
        return Running(init=init, monitor=monitor)

    def _is_of(self, pid: int, id: str) -> bool:
        with if_there():
            return id in Path(f"/proc/{pid}/cgroup").read_text()
        return False

    def alive(self, id: str) -> bool:
        running = self.running(id)
        return running is not None and running.init.alive

    def exit_status(self, id: str) -> ExitStatus | None:
        path = self.exits / id
        try:
            code = int(path.read_text())
            finished = path.stat().st_mtime_ns
        except (FileNotFoundError, ValueError):
            return None
        oom = (self.bundle(id) / "oom").exists()
        return ExitStatus(code=code, finished_ns=finished, oom=oom)

    def paused(self, id: str) -> bool:
        group = self._cgroup(id)
        return bool(group) and self.cgroups.frozen(group)

    def processes(self, id: str) -> list[int]:
        group = self._cgroup(id)
        return self.cgroups.processes(group) if group else []

    def _cgroup(self, id: str) -> str:
        try:
            doc = json.loads((self.bundle(id) / "config.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return ""
        return str(doc["linux"]["cgroupsPath"])

    # talking to conmon

    def resize(self, id: str, height: int, width: int) -> None:
        conmon.resize(self.bundle(id), height, width)

    def reopen_log(self, id: str) -> None:
        """The log file was renamed: go on in a new one."""
        conmon.reopen_log(self.bundle(id))

    def _note(self, id: str, init: Process, monitor: Process | None) -> None:
        path = self.bundle(id) / "process.json"
        fresh = path.with_suffix(".new")
        pair = [monitor.pid, monitor.start] if monitor else None
        fresh.write_text(json.dumps({"init": [init.pid, init.start], "monitor": pair}))
        fresh.rename(path)  # whole or not at all; for a kill before it see _unnoted

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
            raise StartFailed(f"the runtime's {args[0]} took over {RUN_SECONDS:.0f} s") from None
        if done.returncode:
            raise failure(args[0], done.stderr)
