"""Read container logs as conmon writes them (CRI format): rotated files, tail and follow.

    2026-11-24T14:11:48.514025155+00:00 stdout F a whole line
    2026-11-24T14:11:48.514025155+00:00 stderr P a piece of a line, more comes

After a damaged record (power cut, full disk) reading continues at the next valid line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from netkit.errors import Conflict
from netkit.timestamps import epoch_ns

_RECORD = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP]) ?"
)
_BLOCK = 1 << 16
LONGEST = 1 << 18  # bytes of a line that are parsed; conmon's records have some 8 KiB
_RENAMED = 20  # attempts to open a log that is rotated meanwhile


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


class Position(NamedTuple):
    """Where reading ends, and following begins."""

    inode: int
    offset: int
    line: bytes  # the one that ends there, b"" if none does


START = Position(0, 0, b"")


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


def opened(log: Path) -> list[BinaryIO]:
    """Open the files, oldest first, as a consistent set: retried if they are rotated meanwhile.

    Conflict after too many attempts.
    """
    for _ in range(_RENAMED):
        found: list[BinaryIO] = []
        try:
            for path in files(log):
                found.append(open(path, "rb"))  # noqa: SIM115  closed by callers
            now = [path.stat().st_ino for path in files(log)]
            if now == [os.fstat(file.fileno()).st_ino for file in found]:
                return found
        except FileNotFoundError:
            pass
        except BaseException:
            close(found)
            raise
        close(found)
    raise Conflict(f"the log {log.name} is rotated faster than it can be opened: try again")


def close(found: Iterable[BinaryIO]) -> None:
    for file in found:
        file.close()


def read(
    log: Path,
    *,
    since: int,
    until: int,
    tail: int | None,
    channels: Iterable[int],
    end: Position = START,
) -> Iterator[Entry]:
    """Yield what has been logged; `since` and `until` in ns since the epoch, 0 is no limit.

    `end` is where to stop, as `end_position` returns it; `log_follow.follow` continues from there.
    """
    found = opened(log)
    try:
        spans = []
        for file in found:
            st = os.fstat(file.fileno())
            last = st.st_ino == end.inode
            spans.append((file, min(end.offset, st.st_size) if last else st.st_size))
            if last:
                break
        yield from _selected(spans, since, until, tail, channels)
    finally:
        close(found)


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
    """Yield lines from a position on; a line without an end comes in pieces of LONGEST."""
    for file, size in spans[first:]:
        file.seek(offset)
        left, offset = size - offset, 0
        while left > 0 and (line := file.readline(LONGEST)):
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
            rest = lines[0][:LONGEST]
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


def end_position(log: Path) -> Position:
    """The current end of the log, or of its newest file; START if there is none."""
    for path in reversed(files(log)):
        with suppress(FileNotFoundError), closing(open(path, "rb")) as file:  # or renamed meanwhile
            inode, size = os.fstat(file.fileno()).st_ino, file.seek(0, os.SEEK_END)
            return Position(inode, size, line_before(file, size))
    return START


def line_before(file: BinaryIO, offset: int) -> bytes:
    """The line that ends at an offset, with its end; b"" if none does.  Moves the position."""
    start = max(0, offset - _BLOCK)  # records are shorter
    file.seek(start)
    before = file.read(offset - start)
    whole = len(before) == offset - start and before.endswith(b"\n")
    return before[before.rfind(b"\n", 0, -1) + 1 :] if whole else b""
