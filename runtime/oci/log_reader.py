"""Read container logs as conmon writes them (CRI format): rotated files, tail and follow.

    2026-11-24T14:11:48.514025155+00:00 stdout F a whole line
    2026-11-24T14:11:48.514025155+00:00 stderr P a piece of a line, more comes

After a damaged record (power cut, full disk) reading continues at the next valid line.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from netkit.errors import Conflict
from netkit.timestamps import epoch_ns

_RECORD = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP]) ?"
)
_BLOCK = 1 << 16
_FOLLOWED = 1 << 13  # bytes read at a time when following: their records wait for the client
_LONGEST = 1 << 18  # bytes of a line that are parsed; conmon's records have some 8 KiB
_RENAMED = 20  # attempts to open a log that is rotated meanwhile
POLL_INTERVAL = 0.05  # seconds between checks of a followed file: cheap (one fstat), low latency


@dataclass(frozen=True, slots=True)
class Entry:
    ns: int  # since the epoch
    time: bytes  # RFC 3339 with nanoseconds, as written
    channel: int  # 1 stdout, 2 stderr
    data: bytes  # with its newline, if the line is complete


def parse(line: bytes) -> Entry | None:
    """Parse one record; None if the line is none."""
    match = _RECORD.match(line)
    if b"\0" in line:  # unwritten blocks of a crash; a record may follow them
        match = _RECORD.match(line, line.rfind(b"\0") + 1) or match
    match = match or _RECORD.search(line)  # a record after a truncated one
    if not match:
        return None
    moment, zone = match[1], match[2]
    try:
        ns = epoch_ns(moment.decode() + "Z") - _offset(zone)
    except ValueError:
        return None  # digits in the right places, but no valid time
    rest = line[match.end() :]
    whole = match[4] == b"F"
    stamp = moment + (b"Z" if zone in {b"Z", b"+00:00", b""} else zone)
    return Entry(
        ns=ns,
        time=stamp,
        channel=1 if match[3] == b"stdout" else 2,
        data=rest + (b"\n" if whole else b""),
    )


def _offset(zone: bytes) -> int:
    """ns east of UTC."""
    if zone == b"Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:6])
    return (-minutes if zone[:1] == b"-" else minutes) * 60_000_000_000


def files(log: Path) -> list[Path]:
    """The log and its rotated files, oldest first."""
    rotated = []
    for path in log.parent.glob(f"{log.name}.*"):
        if path.suffix[1:].isdigit():
            rotated.append((int(path.suffix[1:]), path))
    return [p for _, p in sorted(rotated, reverse=True)] + ([log] if log.exists() else [])


def _opened(log: Path) -> list[BinaryIO]:
    """Open the files, oldest first, as a consistent set: retried if they are rotated meanwhile.

    Conflict after too many attempts.
    """
    for _ in range(_RENAMED):
        opened: list[BinaryIO] = []
        try:
            for path in files(log):
                opened.append(open(path, "rb"))  # noqa: SIM115  closed by `read`
            now = [path.stat().st_ino for path in files(log)]
            if now == [os.fstat(file.fileno()).st_ino for file in opened]:
                return opened
        except FileNotFoundError:
            pass
        except BaseException:
            _close(opened)
            raise
        _close(opened)
    raise Conflict(f"the log {log.name} is rotated faster than it can be opened: try again")


def _close(opened: Iterable[BinaryIO]) -> None:
    for file in opened:
        file.close()


def read(
    log: Path,
    *,
    since: int,
    until: int,
    tail: int | None,
    channels: Iterable[int],
    end: tuple[int, int] = (0, 0),
) -> Iterator[Entry]:
    """Yield what has been logged; `since` and `until` in ns since the epoch, 0 is no limit.

    `end` (inode, offset) is where to stop, as `here` returns it; `follow` continues from there.
    """
    opened = _opened(log)
    try:
        spans = []
        for file in opened:
            st = os.fstat(file.fileno())
            last = st.st_ino == end[0]
            spans.append((file, min(end[1], st.st_size) if last else st.st_size))
            if last:
                break
        yield from _selected(spans, since, until, tail, channels)
    finally:
        _close(opened)


def _selected(
    spans: list[tuple[BinaryIO, int]],
    since: int,
    until: int,
    tail: int | None,
    channels: Iterable[int],
) -> Iterator[Entry]:
    """Yield matching entries of files, each up to the given size."""
    wanted = set(channels)

    def fits(e: Entry) -> bool:
        return e.channel in wanted and e.ns >= since and (not until or e.ns <= until)

    start = (0, 0) if tail is None else _tail_start(spans, tail, since, fits)
    if start is None:
        return
    for line in _forwards(spans, *start):
        entry = parse(line)
        if entry and fits(entry):
            yield entry


def _tail_start(
    spans: list[tuple[BinaryIO, int]], tail: int, since: int, fits: Callable[[Entry], bool]
) -> tuple[int, int] | None:
    """(index, offset) of the first record of the last `tail` lines; None if there are none.

    Keeps positions, not records: a line may consist of any number of records.
    """
    start, lines = None, 0
    for index, offset, line in _backwards(spans) if tail > 0 else ():
        entry = parse(line)
        if entry is None or not fits(entry):
            if entry and since and entry.ns < since:
                break
            continue
        if entry.data.endswith(b"\n"):
            if lines == tail:
                break
            lines += 1
        elif lines == 0:
            lines = 1  # an unfinished last line counts as one
        start = (index, offset)
    return start


def _forwards(spans: list[tuple[BinaryIO, int]], first: int, offset: int) -> Iterator[bytes]:
    """Yield lines from a position on; a line without an end comes in pieces of _LONGEST."""
    for file, size in spans[first:]:
        file.seek(offset)
        left, offset = size - offset, 0
        while left > 0 and (line := file.readline(_LONGEST)):
            left -= len(line)
            if left < 0:
                break
            yield line.rstrip(b"\n")


def _backwards(spans: list[tuple[BinaryIO, int]]) -> Iterator[tuple[int, int, bytes]]:
    """Yield (index of the file, offset, line) from the last line to the first, in blocks.

    Lines longer than any record are truncated.
    """
    for index in reversed(range(len(spans))):
        file, position = spans[index]
        rest, last = b"", True
        while position > 0:
            step = min(_BLOCK, position)
            position -= step
            file.seek(position)
            lines = (file.read(step) + rest).split(b"\n")
            rest = lines[0][:_LONGEST]
            at = position + len(lines[0]) + 1
            found = []
            for line in lines[1:]:
                found.append((index, at, line))
                at += len(line) + 1
            if last and found and found[-1][2] == b"":
                found.pop()
            last = False
            yield from reversed(found)
        if rest:
            yield index, 0, rest


async def follow(
    log: Path,
    position: tuple[int, int],
    *,
    channels: Iterable[int],
    until: float,
    running: Callable[[], bool],
    now: Callable[[], float],
) -> AsyncGenerator[Entry, None]:
    """Yield entries after `position` (inode, offset) until the container has exited.

    A log that is rotated meanwhile is read to its end before the new one.
    """
    wanted = set(channels)
    inode, offset = position
    file = await asyncio.to_thread(_open_inode, log, inode)
    rest = b""
    try:
        while True:
            going = running()  # before reading: else output right before the exit is lost
            if file is None:
                file = await asyncio.to_thread(_open, log)
            progress = False
            if file is not None:
                file.seek(offset)
                while data := file.read(_FOLLOWED):
                    progress = True
                    offset += len(data)
                    *lines, rest = (rest + data).split(b"\n")
                    rest = rest[-_LONGEST:]
                    for line in lines:
                        entry = parse(line)
                        if entry and entry.channel in wanted:
                            if until and entry.ns > until * 1e9:
                                return
                            yield entry
                if _replaced(file.fileno(), log):
                    file.close()
                    file, offset, rest = None, 0, b""
                    continue
            if not going and not progress:
                return
            if until and now() > until:
                return
            await asyncio.sleep(POLL_INTERVAL if going else 0)
    finally:
        if file is not None:
            file.close()


def end_position(log: Path) -> tuple[int, int]:
    """The current end of the log, for `follow`."""
    try:
        st = log.stat()
    except FileNotFoundError:
        return (0, 0)
    return (st.st_ino, st.st_size)


def _open(path: Path) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _open_inode(log: Path, inode: int) -> BinaryIO | None:
    for path in reversed(files(log)):
        with suppress(FileNotFoundError):  # renamed meanwhile
            if path.stat().st_ino == inode:
                return _open(path)
    return _open(log)


def _replaced(fd: int, log: Path) -> bool:
    try:
        return os.fstat(fd).st_ino != log.stat().st_ino
    except FileNotFoundError:
        return False
