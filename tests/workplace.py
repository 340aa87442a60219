"""The folder of a run of stages, and what it may leave: control groups, files in a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_SECONDS = 0.1
SWEEP_SECONDS = 5  # for killed processes to leave their control groups


def changes(checkout: Path) -> set[str]:
    """List files of a checkout that are neither committed nor ignored; none outside git."""
    if not shutil.which("git"):
        return set()
    done = subprocess.run(
        ["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=all"],
        cwd=checkout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return set(done.stdout.splitlines())


def sweep(work: Path, groups: Path = Path("/sys/fs/cgroup")) -> None:
    """Remove the control groups of stages that were killed: script/apart names them by folder."""
    names = {f"nk-{folder.name}" for folder in work.iterdir()}
    deadline = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < deadline:
        tops = [top for name in names for top in [*groups.glob(name), *groups.glob(f"*/{name}")]]
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):  # its processes are ending
                    os.rmdir(folder)
        if not tops:
            return
        time.sleep(POLL_SECONDS)


@contextmanager
def workplace() -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="netkit-test-"))
    try:
        (work / "results").mkdir()
        yield work
    finally:
        sweep(work)
        shutil.rmtree(work, ignore_errors=True)
