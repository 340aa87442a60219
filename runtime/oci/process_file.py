"""The file process.json of a bundle: which processes a container has, and in which control group.

    {"init": [pid, start], "monitor": [pid, start] or null, "cgroup": path}

It is written once the runtime has created the container.  Where the daemon was killed before that,
the pid files that conmon wrote and the bundle's config.json have the same.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from netkit.gone import if_there
from runtime.filetree.small_file import content, create
from runtime.oci.process import Process

NAME = "process.json"
DAMAGED = (ValueError, LookupError, TypeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    init: Process
    monitor: Process | None


@dataclass(frozen=True, slots=True)
class Contents:
    """Of a process.json."""

    running: Running
    cgroup: str  # "" in those of earlier versions


class _Linux(msgspec.Struct):
    path: str = msgspec.field(name="cgroupsPath")


class _Configuration(msgspec.Struct):
    """Of a bundle's config.json, what is read back."""

    linux: _Linux


_configuration = msgspec.json.Decoder(_Configuration)


def write(bundle: Path, running: Running, cgroup: str) -> None:
    init, monitor = running.init, running.monitor
    fresh = (bundle / NAME).with_suffix(".new")
    pair = [monitor.pid, monitor.start] if monitor else None
    document = {"init": [init.pid, init.start], "monitor": pair, "cgroup": cgroup}
    create(fresh, json.dumps(document).encode(), 0o600)
    fresh.rename(bundle / NAME)  # atomic; if the daemon is killed before, see _by_pid_files


class ProcessFiles:
    """Those of all bundles; each is read once, as it is written once.  Thread-safe.

    They are read and removed under one lock: so what is known of a container is of the run whose
    bundle is there.
    """

    def __init__(self) -> None:
        self._known: dict[Path, Contents] = {}  # by bundle
        self._lock = threading.Lock()

    def write(self, bundle: Path, running: Running, cgroup: str) -> None:
        write(bundle, running, cgroup)
        self._known[bundle] = Contents(running, cgroup)

    def running(self, bundle: Path) -> Running | None:
        """See `running`."""
        found = self._read(bundle)
        return _by_pid_files(bundle) if found is None else found.running

    def cgroup(self, bundle: Path) -> str:
        """See `cgroup`."""
        found = self._read(bundle)
        return found.cgroup if found is not None and found.cgroup else cgroup(bundle)

    def remove(self, bundle: Path) -> None:
        """Remove the file, if it exists."""
        with self._lock:
            self._known.pop(bundle, None)
            with suppress(OSError):  # then the bundle cannot be removed either
                (bundle / NAME).unlink()

    def _read(self, bundle: Path) -> Contents | None:
        if known := self._known.get(bundle):
            return known
        with self._lock:
            found = _read(bundle)
            if found is not None:
                self._known[bundle] = found
        return found


def running(bundle: Path) -> Running | None:
    """None if the container was not created."""
    found = _read(bundle)
    return _by_pid_files(bundle) if found is None else found.running


def _read(bundle: Path) -> Contents | None:
    """None if there is none, or it is damaged."""
    try:
        doc = json.loads(content(bundle / NAME))
        monitor = Process(*doc["monitor"]) if doc["monitor"] else None
        processes = Running(init=Process(*doc["init"]), monitor=monitor)
        return Contents(processes, str(doc.get("cgroup", "")))
    except (FileNotFoundError, *DAMAGED):
        return None


def cgroup(bundle: Path) -> str:
    """Path of the container's control group; "" if there is none."""
    try:
        return str(json.loads(content(bundle / NAME))["cgroup"])
    except (FileNotFoundError, *DAMAGED):
        pass  # the daemon was killed before it wrote that, or it is of an earlier version
    try:  # twenty times as long
        return _configuration.decode(content(bundle / "config.json")).linux.path
    except (FileNotFoundError, msgspec.DecodeError):
        return ""


def _by_pid_files(bundle: Path) -> Running | None:
    try:
        init = Process.of(int((bundle / "pid").read_text()))
        monitor = Process.of(int((bundle / "conmon.pid").read_text()))
    except (FileNotFoundError, ValueError):
        return None
    # pid files have no start time: the control group distinguishes a recycled pid
    if init is None or not _is_of(init.pid, bundle.name):
        return None
    return Running(init=init, monitor=monitor)


def _is_of(pid: int, id: str) -> bool:
    with if_there():
        return id in Path(f"/proc/{pid}/cgroup").read_text()
    return False
