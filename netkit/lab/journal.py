"""The journal of what was begun and done, one JSON object a line, on disk before the act itself.

    {"begin": "host", "host": "h1"}       from now on there may be some of it
    {"done": "host", "host": "h1"}        all of it is there
    {"gone": "host", "host": "h1"}        nothing of it is left

A line that was cut short by a crash was not yet acted on, and does not count.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from netkit.errors import InUse
from netkit.lab.model import Places

Event = Literal["begin", "done", "gone"]
EVENTS: tuple[Event, ...] = ("begin", "done", "gone")
NAME = "journal"


class Journal:
    """Of one lab; safe to use from several threads, for one append is one write."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.file = self.folder / NAME
        self._lock = threading.Lock()
        self._forget(0)

    def _forget(self, inode: int) -> None:
        self._inode, self._read, self._rest = inode, 0, b""
        self._all: list[dict[str, str]] = []
        self._hosts: dict[str, list[dict[str, str]]] = {}

    def exists(self) -> bool:
        return self.file.exists()

    def note(self, event: Event, what: str, **facts: str) -> None:
        """On disk when this returns."""
        new = not self.folder.exists()
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        fd = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, json.dumps({event: what, **facts}).encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        if new:
            for folder in (self.folder, self.folder.parent):
                _sync(folder)

    def state(self, what: str, **facts: str) -> Event | None:
        """The last that was noted of it; None if it was never begun, or is removed again."""
        last: Event | None = None
        for line in self._lines(facts.get("host")):
            if _ends(line, facts):
                last = None
            if all(line.get(key) == value for key, value in facts.items()):
                for event in EVENTS:
                    if line.get(event) == what:
                        last = event
        return None if last == "gone" else last

    def begun(self, what: str, key: str) -> list[str]:
        """Values of `key` of all that were begun and are not removed, in order."""
        seen = dict.fromkeys(line[key] for line in self._lines() if line.get("begin") == what)
        return [value for value in seen if self.state(what, **{key: value})]

    def last(self, what: str, **facts: str) -> list[dict[str, str]]:
        """The last line of each thing that was begun and is not removed, told apart by `line`."""
        found: dict[str, dict[str, str]] = {}
        for entry in self._lines(facts.get("host")):
            if _ends(entry, facts):
                found.clear()
            elif what in (entry.get(event) for event in EVENTS) and all(
                entry.get(key) == value for key, value in facts.items()
            ):
                if entry.get("gone") == what:
                    found.pop(entry["line"], None)
                else:
                    found[entry["line"]] = entry
        return list(found.values())

    def fact(self, what: str, key: str) -> str:
        """The last value of `key` that was noted with `what`."""
        values = [line[key] for line in self._lines() if what in line.values() and key in line]
        return values[-1] if values else ""

    def _lines(self, host: str | None = None) -> list[dict[str, str]]:
        """All lines, or those of a host: of a lab of 200 each of them asks for its own."""
        with self._lock:
            self._catch_up()
            return list(self._all if host is None else self._hosts.get(host, ()))

    def _catch_up(self) -> None:
        """Read what was appended since, by any process; all anew where it is another file."""
        try:
            with self.file.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_ino, True) != (self._inode, status.st_size >= self._read):
                    self._forget(status.st_ino)
                if status.st_size == self._read:
                    return
                file.seek(self._read)
                raw = file.read()
        except FileNotFoundError:
            self._forget(0)
            return
        self._read += len(raw)
        *lines, self._rest = (self._rest + raw).split(b"\n")
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            self._all.append(entry)
            if "host" in entry:
                self._hosts.setdefault(entry["host"], []).append(entry)

    def remove(self) -> None:
        """Delete the lab's folder, the journal last: until then everything can be found again."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if entry != self.file:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def only_one(places: Places) -> Iterator[None]:
    """One process at a time changes a lab; the kernel drops the lock when it dies.

    InUse if another does so now.
    """
    os.makedirs(places.state, mode=0o711, exist_ok=True)
    while True:
        fd = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise InUse(f"lab {places.lab} is being changed by another process") from None
        if _same(fd, places.lock):
            break
        os.close(fd)  # it was removed between our open and our lock
    try:
        yield
    finally:
        if not os.path.exists(places.folder):
            os.unlink(places.lock)
        os.close(fd)


def _ends(line: dict[str, str], facts: dict[str, str]) -> bool:
    """Whether it says that the host of these facts is removed, with all that was its."""
    return line.get("gone") == "host" and line.get("host") == facts.get("host", "")


def _same(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
