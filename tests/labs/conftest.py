"""Labs of the tests' own; no lab may leave anything on this machine."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netkit.lab import building, engines, reading
from netkit.lab.images import BINARY, CACHE
from netkit.lab.model import DOCKER, NETKIT, PODMAN, Places
from netkit.lab.running import RunningLab

CLONE = Path(__file__).resolve().parents[2]
LABS = sorted(p.parent for p in (CLONE / "labs").glob("*/lab.yml"))
COUNTERS = re.compile(r"\[\d+:\d+\]|^#.*$|valid_lft \S+", re.M)
CGROUPS = Path("/sys/fs/cgroup")
os.environ.setdefault(CACHE, str(CLONE / ".debian"))  # of script/debian
UNPACKED = {
    DOCKER: ("NETKIT_TEST_DOCKERD", ".reference"), PODMAN: ("NETKIT_TEST_PODMAN", ".podman")
}  # fmt: skip
for _kind, (_given, _folder) in UNPACKED.items():
    _root = Path(os.environ.get(_given) or CLONE / _folder)
    if _root.is_dir():  # else that of the machine, if any
        os.environ.setdefault(engines.VARIABLES[_kind], str(_root))


def missing() -> str:
    if os.geteuid() != 0:
        return "needs root"
    absent = [name for name in ("ip", "runc", "conmon", "iptables") if not shutil.which(name)]
    absent += [] if BINARY.exists() else [f"{BINARY} (Debian package busybox-static)"]
    return f"needs {', '.join(absent)}" if absent else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.labs)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


def foreign(folder: Path) -> list[str]:
    """Engines of other makers that a lab needs."""
    return sorted({host.engine for host in reading.read(folder).hosts} - {NETKIT})


def skip_without_engines(folder: Path) -> None:
    for kind in foreign(folder):
        if why := os.environ.get(f"NETKIT_TEST_{kind.upper()}_ABSENT") or engines.missing(kind):
            pytest.skip(why)


def netkit(*argv: str, check: bool = True, **more: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "netkit", *argv], capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, cwd=CLONE, **more,
    )  # fmt: skip
    if check:
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done


def root_network() -> str:
    """Return links, addresses, routes and rules of the machine itself, which no lab touches."""
    commands = (["ip", "-o", "link"], ["ip", "-o", "addr"], ["ip", "route"], ["iptables-save"])
    text = "".join(subprocess.run(c, capture_output=True, text=True).stdout for c in commands)
    return COUNTERS.sub("", text)


def traces(name: str) -> list[str]:
    """List what exists of a lab: files, mounts, namespaces, processes, control groups."""
    places = Places(lab=name)
    runs = [places.run(h) for h in ("h1", "h2", "h3", "h4", "slow", "open", "shut")]
    marks = [f"nk-{name}-", f"/netkit-lab/{name}", *runs]
    found = [f"namespace {p.name}" for p in Path(places.names).glob(f"nk-{name}-*")]
    for path in (places.folder, places.lock, places.roots, *runs):
        if os.path.lexists(path):
            found.append(f"file {path}")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if any(mark in line for mark in marks):
            found.append(f"mount {line.split()[4]}")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            rooted = [
                line for line in (entry / "mountinfo").read_text(errors="replace").splitlines()
                if line.split()[4] == "/"
            ]  # fmt: skip
        except OSError:
            continue
        matching = [w for w in words if any(mark in w for mark in marks)]
        if "netkit" in words[:3] or "pytest" in " ".join(words[:4]):
            matching = []  # a client, or we
        if matching or any(mark in line for mark in marks for line in rooted):
            found.append(f"process {entry.name} {' '.join(words)[:120]}")
    return found


@contextmanager
def running(folder: Path, prefix: str) -> Iterator[RunningLab]:
    """A lab under a name of its own; afterwards nothing is left of it."""
    lab = RunningLab(str(folder), f"{prefix}-{secrets.token_hex(3)}")
    try:
        lab.up()
        yield lab
    finally:
        lab.down()
    assert traces(lab.name) == []


def empty_groups() -> set[str]:
    """List control groups of containers without a process in them."""
    found = set()
    for folder in CGROUPS.glob("*/netkit/*/cgroup.procs"):
        try:
            if not folder.read_text().strip():
                found.add(str(folder.parent))
        except OSError:
            continue
    return found


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a folder with a lab.yml of an unused name; a lab still up at the end is taken down."""
    made: list[str] = []
    groups = empty_groups()

    def make(text: str) -> Path:
        folder = tmp_path / f"t-{secrets.token_hex(3)}"
        folder.mkdir()
        (folder / "lab.yml").write_text(text)
        made.append(folder.name)
        return folder

    yield make
    for name in made:
        building.down(Places(lab=name))
        assert traces(name) == []
    deadline = time.monotonic() + 60
    left = empty_groups() - groups
    while left := left & empty_groups():  # those of engines of other tests come and go
        assert time.monotonic() < deadline, f"groups are left: {left}"
        time.sleep(0.2)
