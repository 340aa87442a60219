"""What is found of control groups on hosts of several kinds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.oci.cgroups import Cgroups


@pytest.mark.parametrize("version", [1, 2])
def test_a_host_with_control_groups_needs_no_warning(tmp_path: Path, version: int) -> None:
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    else:
        for name in ("cpu", "memory", "systemd", "unified"):
            (tmp_path / name).mkdir()
    found = Cgroups.probe(tmp_path)
    assert found.version == version
    assert {"cpu", "memory"} <= found.controllers
    assert found.warning == ""


def test_without_control_groups_the_warning_says_what_to_do(tmp_path: Path) -> None:
    """`ip netns exec` mounts a sysfs of its own, which has none."""
    for top in (tmp_path, tmp_path / "absent"):
        assert "nsenter --net=/run/netns/NAME" in Cgroups.probe(top).warning


def test_the_lock_of_moves_is_taken_ahead_by_a_move_that_changes_nothing(tmp_path: Path) -> None:
    """A process is moved to the group it is in, of one hierarchy, by one write."""
    files = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        folder = tmp_path / controllers.removeprefix("name=") / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / "cgroup.procs")
        files[-1].write_text("")
    found = Cgroups(version=1, controllers=frozenset(), swap=False)
    found.move_ahead(os.getpid(), tmp_path).join()
    assert [file.read_text() for file in files] == [str(os.getpid()), *["" for _ in files[1:]]]


def test_a_process_that_has_ended_is_not_moved_ahead(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    Cgroups(version=2, controllers=frozenset(), swap=False).move_ahead(2**30, tmp_path).join()
    assert (tmp_path / "cgroup.procs").read_text() == ""
