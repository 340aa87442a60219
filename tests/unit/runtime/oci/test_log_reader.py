"""Reading logs: records, the last lines, rotated files, torn records."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.oci import log_reader
from runtime.oci.errors import BadCommand, StartFailed, runtime_error

BASE = 1_700_000_000


def record(n: int, text: bytes, channel: str = "stdout", kind: str = "F") -> bytes:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(BASE + n)).encode()
    return stamp + b".000000001+00:00 " + f"{channel} {kind} ".encode() + text + b"\n"


def texts(
    log: Path, tail: int | None = None, since: int = 0, until: int = 0,
    channels: tuple[int, ...] = (1, 2),
) -> list[bytes]:  # fmt: skip
    found = log_reader.read(log, since=since, until=until, tail=tail, channels=channels)
    return [entry.data for entry in found]


def ns(n: int) -> int:
    return (BASE + n) * 10**9


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "container.log"


def test_a_record_is_taken_apart() -> None:
    entry = log_reader.parse(b"2026-11-24T14:11:48.514025155+00:00 stderr F a  b ")
    assert entry == log_reader.Entry(
        ns=1795529508514025155, time=b"2026-11-24T14:11:48.514025155Z", channel=2, data=b"a  b \n"
    )
    part = log_reader.parse(b"2026-11-24T14:11:48.5+00:00 stdout P half")
    assert part is not None
    assert part.data == b"half"


def test_pieces_of_a_line_make_the_line(log: Path) -> None:
    log.write_bytes(record(0, b"ab", kind="P") + record(0, b"cd") + record(1, b"x"))
    assert b"".join(texts(log)) == b"abcd\nx\n"


def test_reading_stops_where_following_goes_on(log: Path) -> None:
    log.write_bytes(record(0, b"a") + record(1, b"b"))
    end = log_reader.end_position(log)
    log.rename(log.with_name(f"{log.name}.1"))
    with open(log.with_name(f"{log.name}.1"), "ab") as file:
        file.write(record(2, b"c"))
    log.write_bytes(record(3, b"d"))
    for tail in (None, 5):
        found = log_reader.read(log, since=0, until=0, tail=tail, channels=(1, 2), end=end)
        assert [entry.data for entry in found] == [b"a\n", b"b\n"]


def test_a_log_is_whole_though_it_is_rotated_while_it_is_read(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(record(0, b"a"))
    once, real = [1], log_reader.files

    def files(path: Path) -> list[Path]:
        found = real(path)
        if once:  # right after the look: what was found is not there any more
            once.pop()
            log.rename(log.with_name(f"{log.name}.1"))
        return found

    monkeypatch.setattr(log_reader, "files", files)
    assert texts(log) == [b"a\n"]


def test_times_and_channels_select(log: Path) -> None:
    log.write_bytes(record(0, b"a") + record(1, b"b", "stderr") + record(2, b"c"))
    assert texts(log, since=ns(1)) == [b"b\n", b"c\n"]
    assert texts(log, until=ns(1) + 1) == [b"a\n", b"b\n"]
    assert texts(log, channels=(1,)) == [b"a\n", b"c\n"]


def test_the_last_lines_are_lines_and_not_records(log: Path) -> None:
    log.write_bytes(
        record(0, b"one") + record(1, b"two-", kind="P") + record(2, b"three")
        + record(3, b"open", kind="P")
    )  # fmt: skip
    assert texts(log, tail=1) == [b"open"]
    assert texts(log, tail=2) == [b"two-", b"three\n", b"open"]
    assert texts(log, tail=0) == []
    assert len(texts(log, tail=99)) == 4


def test_rotated_files_are_read_in_their_order(log: Path) -> None:
    log.write_bytes(record(9, b"new"))
    for n in (1, 2, 10):
        log.with_name(f"container.log.{n}").write_bytes(record(9 - n, f"old{n}".encode()))
    log.with_name("container.log.tmp").write_bytes(record(0, b"not mine"))
    assert texts(log) == [b"old10\n", b"old2\n", b"old1\n", b"new\n"]
    assert texts(log, tail=2) == [b"old1\n", b"new\n"]


def test_reading_goes_on_behind_zeros_and_rubbish(log: Path) -> None:
    """Docker's reader stops there, with exit status 0."""
    log.write_bytes(
        record(0, b"a") + b"\0" * 5000 + b"\n" + record(1, b"b") + b"rubbish\n\n" + record(2, b"c")
    )
    assert texts(log) == [b"a\n", b"b\n", b"c\n"]
    assert texts(log, tail=2) == [b"b\n", b"c\n"]


def test_zeros_right_before_a_record_are_skipped(log: Path) -> None:
    log.write_bytes(record(0, b"a") + b"\0" * 100 + record(1, b"b"))
    assert texts(log) == [b"a\n", b"b\n"]


def test_the_tail_of_a_huge_log_is_read_from_its_end(log: Path) -> None:
    with open(log, "wb") as file:
        file.truncate(8 << 30)  # a hole: reading all of it would take half a minute
        file.seek(0, 2)
        file.write(b"\n" + b"".join(record(n, b"%d" % n) for n in range(100)))
    began = time.perf_counter()
    assert texts(log, tail=3) == [b"97\n", b"98\n", b"99\n"]
    assert time.perf_counter() - began < 10


def test_the_tail_of_a_line_without_end_is_read_piece_by_piece(log: Path) -> None:
    piece = record(1, b"x" * 8000, kind="P")
    log.write_bytes(record(0, b"before") + piece * 150)
    tracemalloc.start()
    found = log_reader.read(log, since=0, until=0, tail=1, channels=(1, 2))
    size = sum(len(entry.data) for entry in found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 150 * 8000
    assert peak < 1 << 19


@pytest.mark.parametrize("tail", [None, 3])
def test_a_file_without_lines_is_not_read_into_memory(log: Path, tail: int | None) -> None:
    with open(log, "wb") as file:
        file.truncate(2 << 20)
        file.seek(0, 2)
        file.write(record(1, b"a") + record(2, b"b"))
    tracemalloc.start()
    found = texts(log, tail=tail)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[-1] == b"b\n"
    assert peak < 3 << 19


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.binary(max_size=30).filter(lambda b: b"\n" not in b and b"\0" not in b),
                       st.sampled_from(["stdout", "stderr"])), max_size=30),
    st.integers(0, 40),
)  # fmt: skip
def test_the_tail_is_the_end_of_everything(lines: list[tuple[bytes, str]], count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "l")
        log.write_bytes(b"".join(record(n, t, c) for n, (t, c) in enumerate(lines)))
        everything = texts(log)
        assert everything == [t + b"\n" for t, _ in lines]
        assert texts(log, tail=count) == everything[max(0, len(lines) - count) :]


def test_a_record_with_an_impossible_time_is_skipped(log: Path) -> None:
    log.write_bytes(record(0, b"a") + b"2026-99-99T14:11:48.5+00:00 stdout F x\n" + record(1, b"b"))
    assert texts(log) == [b"a\n", b"b\n"]


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    there = log_reader.parse(b"2026-11-24T16:00:00.5+02:00 stdout F x")
    here = log_reader.parse(b"2026-11-24T14:00:00.5Z stdout F x")
    assert there is not None
    assert here is not None
    assert there.ns == here.ns


@pytest.mark.parametrize(
    "torn", [b"2026-11-24T14:11:48.5+00:00 stdo", b"2026-11-24T14:11:48.51402",
             b"2026-11-24T14:11:48.5+00:00 stdout F ha\0\0\0"],
)  # fmt: skip
def test_the_record_behind_a_torn_one_is_read(torn: bytes) -> None:
    whole = record(5, b"good")
    assert log_reader.parse(torn + whole.rstrip(b"\n")) == log_reader.parse(whole.rstrip(b"\n"))


PREFIX = 'time="2026-11-24T14:00:00Z" level=error msg="'


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (r"exec: \"x\": executable file not found in $PATH", 127),
        (r"exec: \"/x\": stat /x: no such file or directory", 127),
        (r"exec: \"/bin\": permission denied", 126),
        (r"exec: \"/bin\": is a directory", 126),
    ],
)
def test_commands_that_cannot_run_have_docker_s_exit_status(message: str, code: int) -> None:
    log = f'{PREFIX}runc create failed: unable to start container process: {message}"\n'
    error = runtime_error("create", log)
    assert isinstance(error, BadCommand)
    assert error.exit_code == code
    assert message.replace("\\", "") in str(error)
    assert str(error).endswith(": unknown")


def test_other_failures_are_the_engine_s() -> None:
    error = runtime_error("create", f'{PREFIX}runc create failed: rootfs does not exist"')
    assert not isinstance(error, BadCommand)
    assert isinstance(error, StartFailed)
    assert "rootfs does not exist" in str(error)


def test_the_last_error_of_json_lines_counts() -> None:
    message = '{"level":"warning","msg":"old"}\n{"level":"error","msg":"exec failed: why"}\n'
    assert "exec failed: why" in str(runtime_error("exec", message))
    assert "old" not in str(runtime_error("exec", message))


def test_a_silent_runtime_is_an_error_all_the_same() -> None:
    assert "no reason given" in str(runtime_error("create", ""))
