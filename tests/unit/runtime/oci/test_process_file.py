"""Which processes a container has is read from its bundle, also after a kill at any moment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runtime.oci import process_file
from runtime.oci.process import Process
from runtime.oci.process_file import Running

GROUP = "/netkit/c1"


@pytest.fixture
def here() -> Process:
    found = Process.of(os.getpid())
    assert found is not None
    return found


@pytest.mark.parametrize("monitored", [True, False])
def test_what_was_written_is_read(tmp_path: Path, here: Process, monitored: bool) -> None:
    written = Running(init=here, monitor=Process(1, 5) if monitored else None)
    process_file.write(tmp_path, written, GROUP)
    assert process_file.running(tmp_path) == written
    assert process_file.cgroup(tmp_path) == GROUP
    assert [path.name for path in tmp_path.iterdir()] == ["process.json"]


@pytest.mark.parametrize("text", [None, "", "{}", '{"init": 7}', "[]"])
def test_without_it_the_group_is_that_of_the_configuration(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "process.json").write_text(text)
    (tmp_path / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": GROUP}}))
    assert process_file.cgroup(tmp_path) == GROUP


@pytest.mark.parametrize("text", [None, "{", "{}", '{"linux": {}}'])
def test_a_container_that_is_not_there_has_no_group(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert process_file.cgroup(tmp_path) == ""


def test_pid_files_count_while_the_process_is_in_the_containers_group(
    tmp_path: Path, here: Process
) -> None:
    # The name of a bundle is the container's id, which is in the names of its groups.
    inside = Path("/proc/self/cgroup").read_text().splitlines()[0].partition(":")[0]
    for name, known in ((inside, True), ("0123456789abcdef", False)):
        bundle = tmp_path / name
        bundle.mkdir()
        (bundle / "pid").write_text(f"{here.pid}\n")
        (bundle / "conmon.pid").write_text(f"{here.pid}\n")
        found = process_file.running(bundle)
        assert found == (Running(init=here, monitor=here) if known else None)


def test_without_pid_files_nothing_runs(tmp_path: Path) -> None:
    assert process_file.running(tmp_path) is None
