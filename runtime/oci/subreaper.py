"""Start `runc exec --detach` in a process of its own, and collect exit statuses of the commands.

Run as a script with one end of a SOCK_SEQPACKET socket as its standard input; standard library
only, so that it starts in a few milliseconds.  As a child subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER) it becomes the parent of a command once the OCI runtime has exited, whatever
else holds the command's pipes.  It exits at EOF of the socket.  Packets are JSON objects:

    to it     {"id", "argv", "env", "pid_file"}    with stdin, stdout and stderr as SCM_RIGHTS
    from it   {"id", "runtime": status, "pid": pid of the command, 0 if it does not run}
              {"id", "exit": status of the command}

A status is 128+n for signal n.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
from contextlib import suppress
from typing import Any

PACKET = 1 << 20  # bytes: arguments of one request
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
UNCLAIMED = 256  # statuses kept of children whose runtime has not exited yet
NEVER_RAN = 127  # the runtime could not be started


class Subreaper:
    def __init__(self, daemon: socket.socket) -> None:
        self._daemon = daemon
        self._runtimes: dict[int, tuple[int, str]] = {}  # pid: request's id, file of the pid
        self._commands: dict[int, int] = {}  # pid: request's id
        self._unclaimed: dict[int, int] = {}  # pid: status; empty while no runtime runs

    def take(self) -> bool:
        """Serve one request; False at EOF of the socket."""
        data, fds, _, _ = socket.recv_fds(self._daemon, PACKET, 3)
        if not data:
            return False
        asked = json.loads(data)
        try:
            if len(fds) != 3:  # RLIMIT_NOFILE: some were dropped, the command would get ours
                raise OSError
            pid = _spawn(asked["argv"], asked["env"], fds)
        except OSError:
            self._answer(id=asked["id"], runtime=NEVER_RAN, pid=0)
        else:
            self._runtimes[pid] = asked["id"], asked["pid_file"]
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def reap(self) -> None:
        """Collect the exit statuses of all children that have exited."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            self._ended(pid, code if code >= 0 else 128 - code)

    def _ended(self, pid: int, status: int) -> None:
        if pid in self._runtimes:
            id, file = self._runtimes.pop(pid)
            command = 0 if status else _pid(file)
            self._answer(id=id, runtime=status, pid=command)
            if command in self._unclaimed:
                self._answer(id=id, exit=self._unclaimed.pop(command))
            elif command:
                self._commands[command] = id
        elif pid in self._commands:
            self._answer(id=self._commands.pop(pid), exit=status)
        else:  # a command that exited before its runtime, or an orphan of a command
            self._unclaimed[pid] = status
            while len(self._unclaimed) > UNCLAIMED:
                del self._unclaimed[next(iter(self._unclaimed))]
        if not self._runtimes:  # a later command may have the same pid
            self._unclaimed.clear()

    def _answer(self, **answer: Any) -> None:
        self._daemon.send(json.dumps(answer).encode())


def _spawn(argv: list[str], env: dict[str, str], fds: list[int]) -> int:
    return os.posix_spawn(
        argv[0],
        argv,
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them
    )


def _pid(file: str) -> int:
    try:
        with open(file, encoding="ascii") as f:
            return int(f.read())
    except (OSError, ValueError):
        return 0


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it exits with the daemon, by EOF
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    daemon = socket.socket(fileno=os.dup(0))
    served = Subreaper(daemon)
    poll = select.poll()
    for fd in (daemon.fileno(), ended):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == ended:
                os.read(ended, 4096)
                served.reap()
            elif not served.take():
                return


if __name__ == "__main__":
    with suppress(BrokenPipeError, ConnectionResetError):  # the daemon has exited
        main()
