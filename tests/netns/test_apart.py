"""`script/apart`, which isolates stages of tests: nothing of a stage outlives it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import workplace

APART = Path(__file__).parents[2] / "script/apart"

CGROUPS = Path("/sys/fs/cgroup")
LABS = Path("/var/lib/netkit-lab")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


def alive(mark: str) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                yield int(entry.name)
        except OSError:
            continue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a unique name, which is also that of the control groups."""
    made = tmp_path / f"nk-{secrets.token_hex(4)}"
    made.mkdir()
    return made


def groups() -> set[str]:
    return {folder for folder, _, _ in os.walk(CGROUPS)}


def test_a_command_has_its_own_network_run_and_tmp_and_leaves_no_process(folder: Path) -> None:
    mark = f"nk-{secrets.token_hex(4)}"
    script = """
        ls /run; ip -br link | cut -d' ' -f1; touch /tmp/mine; ls /tmp
        (exit 0) & sh -c 'sleep 60; :' "$1" & exit 7
    """
    done = subprocess.run(
        [APART, folder, "sh", "-c", script, "sh", mark],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.split() == ["lock", "netns", "lo", "mine"]
    assert sorted(p.name for p in folder.iterdir()) == [".netkit-lab", "mine"]
    assert list(alive(mark)) == []


def test_a_command_sees_and_leaves_no_files_and_mounts_of_labs_but_its_own(folder: Path) -> None:
    mark = f"nk-{secrets.token_hex(4)}"
    script = f"""
        set -e
        ls -A {LABS}
        mkdir -p {LABS}/{mark}/upper {LABS}/{mark}/work {LABS}/{mark}/lower {LABS}/{mark}/merged
        cd {LABS}/{mark}
        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work {mark} merged
        touch merged/file
    """
    done = subprocess.run(
        [APART, folder, "sh", "-c", script], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (LABS / mark).exists()
    assert (folder / ".netkit-lab" / mark / "upper/file").exists()
    assert mark not in Path("/proc/self/mountinfo").read_text()


def test_it_runs_in_itself(folder: Path) -> None:
    """Run it inside itself, as these tests do in script/test."""
    script = f"mkdir /tmp/inner && {APART} /tmp/inner echo inside"
    done = subprocess.run(
        [APART, folder, "sh", "-c", script],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "inside\n", "")


@pytest.fixture
def top() -> Path:
    """Return the root of a hierarchy of control groups."""
    found = (CGROUPS / "pids", CGROUPS / "unified", CGROUPS)
    return next(path for path in found if (path / "cgroup.procs").exists())


def test_a_command_sees_and_leaves_no_control_groups_but_its_own(folder: Path, top: Path) -> None:
    mark = f"nk-{secrets.token_hex(4)}"
    script = f"""
        sed s/.*:// /proc/self/cgroup
        find {CGROUPS} -name 'nk-*'
        mkdir -p {top}/{mark}/inner; sleep 60 & echo $! >{top}/{mark}/inner/cgroup.procs
        grep -c . {top}/{mark}/inner/cgroup.procs
    """
    before, other = groups(), top / f"{mark}-other"
    other.mkdir()
    try:
        done = subprocess.run(
            [APART, folder, "sh", "-c", script], capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        made = [group for group in groups() - before if mark in group or folder.name in group]
    finally:
        other.rmdir()
    *own, count = done.stdout.split()
    assert (done.returncode, done.stderr, count) == (0, "", "1")
    assert set(own) <= {"/", "/stage"}
    assert made == [str(other)]


def test_what_is_killed_takes_all_with_it(folder: Path) -> None:
    mark = f"nk-{secrets.token_hex(4)}"
    script = f"""
        mkdir -p {LABS}/$1/merged; mount -t tmpfs none {LABS}/$1/merged
        setsid sh -c 'sleep 60; :' "$1" & touch /tmp/up; sleep 60
    """
    process = subprocess.Popen([APART, folder, "sh", "-c", script, "sh", mark])
    deadline = time.monotonic() + 60
    while not ((folder / "up").exists() and len(list(alive(mark))) > 2):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    while left := list(alive(mark)):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
    name = f"nk-{folder.name}"
    assert name in {Path(group).name for group in groups()}
    workplace.sweep(folder.parent)
    assert name not in {Path(group).name for group in groups()}
    assert not (LABS / mark).exists()
    shutil.rmtree(folder)  # nothing is mounted in it
