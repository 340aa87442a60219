"""The lock for moves between control groups is taken once, by a move that changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.oci.cgroup_lock import RECENT, CgroupLock


def groups(top: Path) -> list[Path]:
    """The files that list the processes of this one's group, a hierarchy each."""
    files = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        folder = top / controllers.removeprefix("name=") / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / "cgroup.procs")
        files[-1].write_text("")
    return files


def test_a_process_is_moved_to_the_group_it_is_in_by_one_write(tmp_path: Path) -> None:
    files = groups(tmp_path)
    thread = CgroupLock(tmp_path).take_ahead(os.getpid())
    assert thread is not None
    thread.join()
    assert [file.read_text() for file in files] == [str(os.getpid()), *["" for _ in files[1:]]]


def test_one_of_many_starts_at_once_takes_it(tmp_path: Path) -> None:
    now = [100.0]
    lock = CgroupLock(tmp_path, lambda: now[0])
    taken = [lock.take_ahead(os.getpid()) for _ in range(3)]
    assert [thread is not None for thread in taken] == [True, False, False]
    now[0] += RECENT * 1.01
    assert lock.take_ahead(os.getpid()) is not None


def test_a_process_that_has_ended_is_not_moved(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    thread = CgroupLock(tmp_path).take_ahead(2**30)
    assert thread is not None
    thread.join()
    assert (tmp_path / "cgroup.procs").read_text() == ""
