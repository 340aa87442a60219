"""Follow a container's log: what conmon appends, over rotations and the cut at the exit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from netkit.errors import Conflict
from runtime.oci import log_reader
from runtime.oci.log_reader import LONGEST, START, Entry, Position, line_before, parse

POLL_INTERVAL = 0.05  # seconds between checks of a followed file: cheap (one fstat), low latency
_FOLLOWED = 1 << 13  # bytes read at a time: their records wait for the client
_BLOCK = 1 << 16


async def follow(
    log: Path,
    position: Position,
    *,
    channels: Iterable[int],
    until: float,
    running: Callable[[], bool],
    now: Callable[[], float],
) -> AsyncGenerator[Entry, None]:
    """Yield entries after `position` until the container has exited.

    A log that is rotated meanwhile is read to its end before the next one.
    """
    wanted, tail = set(channels), Tail(log)
    try:
        await asyncio.to_thread(tail.begin, position)
        while True:
            # Before reading: else output right before the exit, or before a new file, is lost.
            going, replaced = running(), tail.replaced()
            before = tail.offset
            for line in tail.lines():
                entry = parse(line)
                if entry and entry.channel in wanted:
                    if until and entry.ns > until * 1e9:
                        return
                    yield entry
            if replaced and await asyncio.to_thread(tail.advance):
                continue
            if not going and tail.offset == before:
                return
            if until and now() > until:
                return
            await asyncio.sleep(POLL_INTERVAL if going else 0)
            if tail.missing:
                await asyncio.to_thread(tail.find)
    finally:
        tail.close()


class Tail:
    """The file that is read; the log may not exist yet, or not now."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file: BinaryIO | None = None
        self.offset = 0
        self._rest = b""  # the beginning of a line that is not complete
        self._last = b""  # the last line that was read, with its end

    @property
    def missing(self) -> bool:
        return self._file is None

    def begin(self, position: Position) -> None:
        """Open the file that the position is in; if it was removed, what continues it.

        Conflict if files are renamed faster than they can be opened.
        """
        files = log_reader.opened(self._log)
        try:
            if files:
                at, self.offset = _found(files, position)
                self._file, self._last = files.pop(at), position.line
        finally:
            log_reader.close(files)

    def find(self) -> None:
        """Open the log, of which there was nothing."""
        with suppress(Conflict):
            self.begin(START)

    def lines(self) -> Iterator[bytes]:
        """What was appended, to the end; without the ends of lines."""
        if self._file is None:
            return
        self._file.seek(self.offset)
        while data := self._file.read(_FOLLOWED):
            self.offset += len(data)
            *lines, rest = (self._rest + data).split(b"\n")
            self._rest = rest[-LONGEST:]
            for line in lines:
                self._last = line + b"\n"
                yield line

    def replaced(self) -> bool:
        """Whether there is a newer file: then nothing is appended to this one any more."""
        if self._file is None:
            return False
        own = os.fstat(self._file.fileno()).st_ino
        with suppress(FileNotFoundError):
            return own != self._log.stat().st_ino
        # It was renamed, and conmon has yet to reopen it: it appends to the newest.
        with suppress(FileNotFoundError):
            return any(own != path.stat().st_ino for path in log_reader.files(self._log)[-1:])
        return False

    def advance(self) -> bool:
        """Go on where this file ends, in the next one; False: not now.  It was read to its end.

        The next one is the one after it.  If it was removed, its content may have been cut into
        files that replace it: what comes after its last line, which has the time in nanoseconds.
        """
        assert self._file is not None
        try:
            files = log_reader.opened(self._log)
        except Conflict:
            return False
        try:
            at, offset = self._next(files, os.fstat(self._file.fileno()).st_ino)
            if at == len(files):
                return False
            self._file.close()
            self._file, self.offset, self._rest = files.pop(at), offset, b""
            return True
        finally:
            log_reader.close(files)

    def _next(self, files: list[BinaryIO], inode: int) -> tuple[int, int]:
        """(index, offset) of where to go on; the index is that of no file if there is none."""
        inodes = [os.fstat(file.fileno()).st_ino for file in files]
        if inode in inodes:
            return inodes.index(inode) + 1, 0
        return _after(files, self._last) if files else (0, 0)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _found(files: list[BinaryIO], position: Position) -> tuple[int, int]:
    """(index, offset) of a position.  `files` are the oldest first."""
    if not position.inode:  # there were no files
        return 0, 0
    for index, file in enumerate(files):
        same = os.fstat(file.fileno()).st_ino == position.inode  # or that of a removed file
        if same and line_before(file, position.offset) == position.line:
            return index, position.offset
    return _after(files, position.line)


def _after(files: list[BinaryIO], line: bytes) -> tuple[int, int]:
    """(index, offset) after a line that was the last to be read.  `files` are the oldest first.

    Where none has it, all of them are newer.  Without a line only the newest can be said to be.
    """
    if not line:
        return len(files) - 1, 0
    for index in reversed(range(len(files))):
        if (end := _end_of(files[index], line)) >= 0:
            return index, end
    return 0, 0


def _end_of(file: BinaryIO, line: bytes) -> int:
    """The offset of the end of the last such line; -1 if there is none."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        end, position = position, max(0, position - _BLOCK)
        file.seek(max(0, position - 1))
        block = file.read(end - position + len(line))
        if (at := block.rfind(b"\n" + line)) >= 0:
            return max(0, position - 1) + at + 1 + len(line)
        if position == 0 and block.startswith(line):
            return len(line)
    return -1
