"""A program on a pseudo-terminal, driven as a person would: type, read until, resize."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from netkit.testing.waiting import readable

CTRL_C = b"\x03"
CTRL_D = b"\x04"
CTRL_P = b"\x10"
CTRL_Q = b"\x11"


class Terminal:
    """`with Terminal(argv) as t: t.expect(b"#"); t.send(b"ls\\n")`.  Kills the program at exit."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: dict[str, str] | None = None,
        size: tuple[int, int] = (24, 80),
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(*size)
        self.seen = b""  # what no expect() has consumed yet
        self.process = subprocess.Popen(
            list(argv),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - single thread
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def resize(self, rows: int, columns: int) -> None:
        """Set the window size; the kernel sends SIGWINCH to the foreground program."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data: bytes) -> None:
        os.write(self._master, data)

    def expect(self, pattern: bytes, timeout: float = 60) -> re.Match[bytes]:
        """Read until `pattern` (a regular expression) has come; consumes up to its end."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(
                    f"waited {timeout} s for {pattern!r}; the terminal shows {self.seen[-2000:]!r}"
                )
        self.seen = self.seen[found.end() :]
        return found

    def until(self, enough: Callable[[bytes], bool], timeout: float = 60) -> bytes:
        """Read until what has come is enough; consumes and returns all of it."""
        deadline = time.monotonic() + timeout
        while not enough(self.seen):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(
                    f"waited {timeout} s; the terminal shows {self.seen[-2000:]!r}"
                )
        shown, self.seen = self.seen, b""
        return shown

    def answered(self, line: bytes, pattern: bytes, timeout: float = 60) -> None:
        """Send `line` each half second until `pattern` has come.

        What is typed while a client switches its terminal to raw mode may be discarded.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.send(line)
            try:
                self.expect(pattern, 0.5)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def wait(self, timeout: float = 60) -> int:
        """Return the program's exit code; what it still prints is kept in `seen`."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {timeout} s: {self.seen[-2000:]!r}")
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.returncode

    def _read(self, timeout: float) -> bool:
        """Read available output; return False after a timeout or when the other side is closed."""
        if not readable(self._master, timeout):
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last program holding the slave side has ended
            time.sleep(0.02)
            return False
        self.seen += data
        return bool(data)
