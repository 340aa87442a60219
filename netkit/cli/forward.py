"""Signals that reach us go on to the container."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress

from netkit.client.failure import Exit, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from netkit.client.engine import Engine

# Not WINCH, which is about our terminal; not what the kernel sends for faults of our own.
FORWARDED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGALRM, signal.SIGTERM, signal.SIGCONT, signal.SIGTSTP,
)  # fmt: skip
PATIENCE = 3  # SIGINTs and SIGTERMs for the container; one more ends us, whatever it does


@contextmanager
def forwarding(engine: Engine, container: str, wanted: bool = True) -> Iterator[None]:
    """Forward signals to the container while in the block, if `wanted`."""
    if not wanted:
        yield
        return
    asked = 0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if number in (signal.SIGINT, signal.SIGTERM):
            asked += 1
            if asked > PATIENCE:
                raise Exit(128 + number)
        # Not here: a daemon that does not answer must not block the terminal.
        threading.Thread(target=_tell, args=(engine, container, number), daemon=True).start()

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(engine: Engine, container: str, number: int) -> None:
    name = signal.Signals(number).name
    # Failing means that it has ended, or the daemon has: the reader of its output will see.
    with suppress(Failure, OSError):
        engine.post(f"/containers/{container}/kill", {"signal": name})
