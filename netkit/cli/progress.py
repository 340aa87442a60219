"""Progress streams of load, import and pull: lines, redrawn in place on a terminal."""

from __future__ import annotations

import os
import sys

from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from netkit.client.engine import Json


def show(messages: Iterable[Json], *, quiet: bool = False, fd: int = 1) -> None:
    """Print each message to `fd`; Failure for one that is an error."""
    out = sys.stdout if fd == 1 else sys.stderr
    painter = _Painter(out.write, redraw=os.isatty(fd))
    for message in messages:
        if detail := message.get("errorDetail") or message.get("error"):
            about = detail if isinstance(detail, dict) else {"message": detail}
            # of a build: the exit code of the RUN that failed
            raise Failure(str(about.get("message") or message.get("error")), about.get("code"))
        if not quiet:
            painter.show(message)
            out.flush()


class _Painter:
    """Messages with an id own a line, which is drawn over when `redraw`."""

    def __init__(self, write: object, *, redraw: bool) -> None:
        self.write, self.redraw = write, redraw
        self.lines: dict[str, int] = {}

    def show(self, message: Json) -> None:
        assert callable(self.write)
        if "stream" in message:
            self.write(str(message["stream"]))
            return
        if "status" not in message:
            return  # aux data
        name, bar = str(message.get("id") or ""), str(message.get("progress") or "")
        if not self.redraw and message.get("progressDetail"):
            return
        text = f"{name}: {message['status']}" if name else str(message["status"])
        if not self.redraw:
            if not bar:
                self.write(f"{text}\n")
            return
        if not name:
            self.write(f"{text}\n")
            self.lines = {key: up + 1 for key, up in self.lines.items()}
            return
        line = f"\r\x1b[2K{text} {bar}".rstrip()
        if name in self.lines:
            up = self.lines[name]
            self.write(f"\x1b[{up}A{line}\x1b[{up}B\r")
        else:
            self.write(f"{line}\n")
            self.lines = {key: up + 1 for key, up in self.lines.items()} | {name: 1}
