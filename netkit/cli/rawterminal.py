"""The user's terminal in raw mode, which is always undone, and changes of its size."""

from __future__ import annotations

import os
import signal
import termios
from contextlib import contextmanager

from netkit.cli.terminal import size
from netkit.client.failure import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ENDING = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes to the program in the container; as before on every way out of the block.

    Signals that would end us raise Exit in the block unless they have handlers already.
    """
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    handlers = {n: signal.getsignal(n) for n in ENDING}
    for number, handler in handlers.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)
    try:
        termios.tcsetattr(fd, termios.TCSANOW, _raw_mode(before))
        yield
    finally:
        # TCSADRAIN would wait for a terminal that is not read any more.
        termios.tcsetattr(fd, termios.TCSANOW, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise Exit(128 + number)


def _raw_mode(mode: list[int | list[bytes | int]]) -> list[int | list[bytes | int]]:
    """cfmakeraw(3)."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, control = mode
    assert isinstance(iflag, int)
    assert isinstance(oflag, int)
    assert isinstance(cflag, int)
    assert isinstance(lflag, int)
    assert isinstance(control, list)
    iflag &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = (cflag & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    control = list(control)
    control[termios.VMIN], control[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, control]


@contextmanager
def resizing(report: Callable[[int, int], object]) -> Iterator[None]:
    """Call `report(rows, columns)` at every change of the window while in the block."""

    def changed(number: int, frame: FrameType | None) -> None:
        if now := size():
            report(*now)

    before = signal.signal(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
