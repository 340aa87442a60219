"""An attached process: our terminal and its streams, until it ends or we let go of it."""

from __future__ import annotations

import json
import select
import threading
import time
from contextlib import ExitStack, contextmanager

from netkit.cli import rawterminal, terminal
from netkit.cli.commands import complain
from netkit.cli.pump import Pump
from netkit.client.failure import ENGINE_ERROR, Failure, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netkit.client.engine import Engine, Hijacked
    from netkit.client.http import Response

    Resize = Callable[[int, int], bool]  # rows, columns

DETACH_SECONDS = 0.5  # a process whose terminal closed and that still runs so long: we detached
RESIZE_TRIES = 10  # a process that has just been started may have no terminal yet


def talk(
    stream: Hijacked, *, tty: bool, stdin: bool, stdout: bool = True, stderr: bool = True,
    resize: Resize | None = None,
) -> None:  # fmt: skip
    """Carry everything until the daemon ends the stream; the terminal is then as before."""
    with ExitStack() as stack:
        if tty and stdin:
            stack.enter_context(rawterminal.raw(terminal.STDIN))
        if tty and resize is not None and terminal.size():
            stack.enter_context(rawterminal.resizing(resize))
            _resize_at_first(resize)
        Pump(
            stream,
            tty=tty,
            stdin=terminal.STDIN if stdin else None,
            stdout=terminal.STDOUT if stdout else None,
            stderr=terminal.STDERR if stderr else None,
        ).run()


def resizer(engine: Engine, path: str) -> Resize:
    """Return a function that sends the window's size to the daemon; False where it is refused."""

    def report(rows: int, columns: int) -> bool:
        try:
            engine.post(f"{path}/resize", {"h": rows, "w": columns})
        except Failure:
            return False
        return True

    return report


def _resize_at_first(report: Resize) -> None:
    def attempt() -> None:
        for again in range(RESIZE_TRIES):
            now = terminal.size()
            if not now or report(*now):
                return
            time.sleep((again + 1) / 100)

    threading.Thread(target=attempt, daemon=True).start()


class Ending:
    """The pending answer of /wait, asked for before the process can have ended."""

    def __init__(self, engine: Engine, container: str, condition: str = "") -> None:
        self.engine, self.container = engine, container
        self._answer: Response = engine.stream(
            "POST", f"/containers/{container}/wait", {"condition": condition}
        )

    def status(self) -> int:
        """The exit status; waits for it."""
        try:
            end = json.loads(self._answer.read())
        except (OSError, ValueError) as error:
            complain(f"error waiting for container: {error}")
            return ENGINE_ERROR
        if message := (end.get("Error") or {}).get("Message"):
            complain(f"error waiting for container: {message}")
            return ENGINE_ERROR
        return int(end["StatusCode"])

    def arrived(self, seconds: float) -> bool:
        wire = self._answer.wire
        return bool(wire.buffered or select.select([wire.sock], [], [], seconds)[0])

    def detached(self) -> bool:
        """The stream has closed: is it because of the detach keys?

        The daemon does not report why it closed the stream; detached if the process still runs.
        """
        deadline = time.monotonic() + DETACH_SECONDS
        while not self.arrived(0.05):
            try:
                state = self.engine.get(f"/containers/{self.container}/json")["State"]
            except Refused:
                return False  # removed: the status is on its way
            if not state["Running"]:
                return False
            if time.monotonic() > deadline:
                return True
        return False


@contextmanager
def removed_after(ending: Ending, wanted: bool) -> Iterator[None]:
    """When the block fails, wait until the daemon has removed the container, if it will."""
    try:
        yield
    except Failure:
        if wanted:
            ending.arrived(10)
        raise
