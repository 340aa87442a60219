"""Following logs: each line once, whatever happens to the files meanwhile."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.lifecycle import log_rotation
from runtime.oci import log_reader
from runtime.oci.log_follow import Tail, follow
from tests.unit.runtime.oci.test_log_reader import record

FILES = 1000  # more than there are: none is dropped


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "container.log"


async def _followed(log: Path, write: Callable[[], None]) -> list[bytes]:
    going, found = [True], []
    position = log_reader.end_position(log)

    async def writer() -> None:
        await asyncio.sleep(0.15)
        write()
        going[0] = False

    task = asyncio.create_task(writer())
    coming = follow(
        log, position, channels=(1, 2), until=0, running=lambda: going[0], now=time.time
    )
    async with asyncio.timeout(60):
        async for entry in coming:
            found.append(entry.data)
    await task
    return found


@pytest.mark.slow
def test_following_gives_what_comes_up_to_the_end(log: Path) -> None:
    log.write_bytes(record(0, b"before"))

    def write() -> None:
        with open(log, "ab") as file:
            file.write(record(1, b"after") + record(2, b"last"))

    assert asyncio.run(_followed(log, write)) == [b"after\n", b"last\n"]


@pytest.mark.slow
def test_following_goes_over_a_rotation_and_loses_nothing(log: Path) -> None:
    log.write_bytes(record(0, b"before"))

    def write() -> None:
        with open(log, "ab") as file:
            file.write(record(1, b"old file"))
        log.rename(log.with_name("container.log.1"))
        log.write_bytes(record(2, b"new file"))

    assert asyncio.run(_followed(log, write)) == [b"old file\n", b"new file\n"]


@pytest.mark.slow
def test_following_a_log_that_does_not_exist_yet(log: Path) -> None:
    assert asyncio.run(_followed(log, lambda: None)) == []
    assert asyncio.run(_followed(log, lambda: log.write_bytes(record(0, b"x")) and None)) == [
        b"x\n"
    ]


@pytest.mark.slow
def test_what_is_cut_at_the_exit_is_not_repeated(log: Path) -> None:
    log.write_bytes(record(0, b"before"))

    def write() -> None:
        with open(log, "ab") as file:
            file.write(b"".join(record(n, b"%d" % n) for n in range(1, 20)))
        log_rotation._cut(log, 200, FILES)

    assert asyncio.run(_followed(log, write)) == [b"%d\n" % n for n in range(1, 20)]


class Followed:
    """A log, and what a follower has read of it."""

    def __init__(self, log: Path) -> None:
        self.log, self.tail = log, Tail(log)
        self.found: list[bytes] = []
        self.written: list[bytes] = []

    def write(self, count: int) -> None:
        """One piece of output: conmon gives its lines the same time."""
        lines = [record(len(self.written), b"line %d" % n) for n in range(count)]
        with open(self.log, "ab") as file:
            file.write(b"".join(lines))
        self.written += lines

    def rotate(self, _: int) -> None:
        log_rotation._shift(self.log, FILES)

    def cut(self, lines: int) -> None:
        if self.log.exists():
            log_rotation._cut(self.log, lines * len(record(0, b"line 0")), FILES)

    def look(self, _: int = 0) -> None:
        replaced = self.tail.replaced()
        if self.tail.missing:
            self.tail.find()
        self.found += [line + b"\n" for line in self.tail.lines()]
        if replaced:
            self.tail.advance()


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["write", "write", "rotate", "cut", "look"]), st.integers(1, 5)),
    max_size=12,
)


@pytest.mark.slow
@given(OPERATIONS, OPERATIONS, OPERATIONS)
def test_each_line_after_the_position_is_read_once(
    before: Sequence[tuple[str, int]],
    meanwhile: Sequence[tuple[str, int]],
    after: Sequence[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        follower = Followed(Path(folder, "container.log"))

        def do(operations: Sequence[tuple[str, int]], *, looks: bool) -> None:
            for name, number in operations:
                if looks or name != "look":
                    getattr(follower, name)(number)

        try:
            do(before, looks=False)
            position, skipped = log_reader.end_position(follower.log), len(follower.written)
            do(meanwhile, looks=False)
            follower.tail.begin(position)
            do(after, looks=True)
            for _ in range(40):  # files at most
                follower.look()
            assert follower.found == follower.written[skipped:]
        finally:
            follower.tail.close()
