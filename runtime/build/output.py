"""What a build sends its client, in the order of its stages although they run side by side.

Messages are objects of Docker's progress stream.  A stage whose turn has not come is kept back, up
to a bound; beyond it the stage waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from runtime import limits
from runtime.cancellation import LOOK, Cancel

Message = dict[str, Any]
Send = Callable[[Message], None]  # waits for a slow client; Cancelled once it has left


class Transcript:
    """A Send that keeps what would have been shown (`--quiet`), the last part of it."""

    def __init__(self) -> None:
        self._messages: deque[tuple[int, Message]] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def __call__(self, message: Message) -> None:
        if message.get("progressDetail") or "aux" in message:
            return
        size = _size(message)
        with self._lock:
            self._messages.append((size, message))
            self._size += size
            while self._size > limits.BUILD_OUTPUT_BYTES:
                self._size -= self._messages.popleft()[0]

    def replay(self, send: Send) -> None:
        while self._messages:
            send(self._messages.popleft()[1])


class Section:
    """The output of one stage, or of what comes before and after them."""

    def __init__(self, send: Send, cancel: Cancel, *, open: bool) -> None:
        self._send, self._cancel = send, cancel
        self._changed = threading.Condition()
        self._open = open
        self._kept: deque[Message] = deque()
        self._size = 0

    def message(self, message: Message) -> None:
        with self._changed:
            while not self._open and self._size > limits.BUILD_OUTPUT_BYTES:
                self._cancel.check()
                self._changed.wait(LOOK)
            if not self._open:
                self._kept.append(message)
                self._size += _size(message)
                return
        self._send(message)

    def text(self, text: str) -> None:
        self.message({"stream": text})

    def error_text(self, text: str) -> None:
        """What a command wrote on stderr: in red."""
        self.message({"stream": f"\x1b[91m{text}\x1b[0m"})

    def begin(self) -> None:
        """Its turn has come: send what was kept, and everything from now on."""
        while True:
            with self._changed:
                kept, self._kept = self._kept, deque()
                if not kept:
                    self._open = True
                    self._changed.notify_all()
                    return
                self._size = 0
                self._changed.notify_all()
            for message in kept:
                self._send(message)


def _size(message: Message) -> int:
    return 100 + len(message.get("stream") or message.get("status") or "")
