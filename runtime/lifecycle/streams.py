"""Protocols of connections that carry the input and output of a process."""

from __future__ import annotations

from typing import Protocol


class Stream(Protocol):
    """A hijacked connection: raw bytes in; frames out (multiplexed unless a terminal)."""

    async def read(self) -> bytes:
        """Next bytes from the client; b"" once it has closed its sending side."""
        ...

    async def write(self, channel: int, data: bytes) -> None:
        """Send output of channel 1 (stdout), 2 (stderr) or 3 (error); waits for a slow client.

        Raises ConnectionError once the client has disconnected.
        """
        ...

    async def close(self) -> None: ...


class Attachment(Protocol):
    """An attach that was checked and not started; obtained before the connection is hijacked.

    Until then errors are answered with an HTTP status.  Allocates nothing before `run`, because
    the client may disconnect in between.
    """

    tty: bool  # the stream is raw, without frames

    async def run(self, stream: Stream) -> None:
        """Copy both ways until the process exits, the client disconnects or detaches by keys."""
        ...
