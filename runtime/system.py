"""Collect what `info`, `version` and `system df` show."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import netkit
from netkit.gone import gone
from netkit.timestamps import rfc3339
from runtime.container.model import Container
from runtime.images.store import ImageStore
from runtime.oci import versions

API_VERSION = "1.51"
MIN_API_VERSION = "1.22"


class Containers(Protocol):
    def all(self) -> list[Container]: ...


class SystemService:
    """Implements ports.System.  `facts` has values from other parts, e.g. the firewall.

    `programs`: paths of the OCI runtime, conmon and init ("" if there is none).
    `warnings`: returns the current ones.
    """

    def __init__(
        self,
        *,
        engine_id: str,
        root: Path,
        labels: Iterable[str],
        containers: Containers,
        images: ImageStore,
        drivers: Iterable[str],
        facts: Mapping[str, Any],
        programs: Mapping[str, str],
        debug: bool = False,
        warnings: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._id = engine_id
        self._root = root
        self._labels = list(labels)
        self._containers = containers
        self._images = images
        self._drivers = sorted(drivers)
        self._facts = dict(facts)
        self._programs = dict(programs)
        self._debug = debug
        self._warnings = warnings

    def configure(
        self, *, labels: Iterable[str], debug: bool, facts: Mapping[str, Any]
    ) -> None:
        """Show these from now on: the configuration was reloaded."""
        self._labels, self._debug = list(labels), debug
        self._facts = {**self._facts, **facts}

    def info(self) -> dict[str, Any]:
        forwarding = forwards()
        lacking = [] if forwarding else ["WARNING: IPv4 forwarding is disabled"]
        lacking += [f"WARNING: {text}" for text in self._warnings()]
        return {
            "ID": self._id,
            **self._objects(),
            "Driver": "overlay2",
            "DriverStatus": [
                ["Backing Filesystem", _filesystem(self._root)],
                ["Supports d_type", "true"],
            ],
            "Plugins": {
                "Volume": ["local"],
                "Network": self._drivers,
                "Authorization": None,
                "Log": ["json-file", "local", "none"],
            },
            "IPv4Forwarding": forwarding,
            "Debug": self._debug,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": _threads(),
            "SystemTime": rfc3339(),
            "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs",
            "NEventsListener": 0,
            **_host(),
            "DockerRootDir": str(self._root),
            "Labels": self._labels,
            "ServerVersion": netkit.__version__,
            "RuncCommit": {"ID": versions.commit(self._programs["runtime"])},
            "InitCommit": {"ID": versions.commit(self._programs["init"])},
            **_fixed(),
            **self._facts,
            "Warnings": [*self._facts.get("Warnings", ()), *lacking],
        }

    def _objects(self) -> dict[str, int]:
        """Count what there is."""
        states = [c.state.status for c in self._containers.all()]
        return {
            "Containers": len(states),
            "ContainersRunning": states.count("running"),
            "ContainersPaused": states.count("paused"),
            "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
            "Images": len(self._images.all()),
        }

    def version(self) -> dict[str, Any]:
        details = {
            "ApiVersion": API_VERSION,
            "Arch": _arch(),
            "KernelVersion": os.uname().release,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
            "Python": platform.python_version(),
        }
        components = [{"Name": "Engine", "Version": netkit.__version__, "Details": details}]
        for path in self._programs.values():
            if found := versions.version(path):
                components.append({"Name": Path(path).name, "Version": found, "Details": {}})
        return {
            "Platform": {"Name": "netkit"},
            "Components": components,
            "Version": netkit.__version__,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            "GitCommit": "",
            "GoVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
            "Os": "linux",
            "Arch": _arch(),
            "KernelVersion": os.uname().release,
            "BuildTime": "",
        }

    def disk_usage(self, types: Iterable[str]) -> dict[str, Any]:
        """Bytes of all layers, shared ones once; the API derives the rest."""
        layers = {d: n for i in self._images.all() for d, n in self._images.layer_sizes(i.id)}
        return {"LayersSize": sum(layers.values())}


def _host() -> dict[str, Any]:
    return {
        "KernelVersion": os.uname().release,
        "OperatingSystem": _os_release("PRETTY_NAME"),
        "OSVersion": _os_release("VERSION_ID"),
        "OSType": "linux",
        "Architecture": os.uname().machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": socket.gethostname(),
    }


def _fixed() -> dict[str, Any]:
    """Return what is the same on all hosts, and of what there is none here."""
    return {
        "IndexServerAddress": "",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": {},
            "Mirrors": [],
        },
        "GenericResources": None,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "ExperimentalBuild": False,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "ContainerdCommit": {"ID": ""},
        "SecurityOptions": ["name=seccomp,profile=builtin"],
    }


def _arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def forwards() -> bool:
    """Does this host forward IPv4 packets?"""
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError as error:
        if gone(error):
            return False
        raise


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _os_release(key: str) -> str:
    return platform.freedesktop_os_release().get(key, "")


def _filesystem(path: Path) -> str:
    best = ("", "unknown")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        inside = str(path) == point or str(path).startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, right.split()[0])
    return best[1]
