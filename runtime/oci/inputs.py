"""Inputs of an OCI configuration besides the container's own: the host, and paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.oci.cgroups import Cgroups


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleMount:
    """One mount of the container; options as of mount(8)."""

    source: str
    destination: str
    type: str = "bind"
    options: tuple[str, ...] = ("rbind", "rprivate")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """Properties of the host that an OCI configuration depends on."""

    machine: str  # uname -m
    cgroups: Cgroups
    bounding: tuple[str, ...]  # capabilities the daemon has
    hard_limits: Mapping[str, int]  # of the daemon, by name ("nofile"); -1 is unlimited
    raise_limits: bool  # CAP_SYS_RESOURCE
    cpus: int
    init: str  # path of an init binary, "" if there is none
    shared_memory: tuple[str, ...] = ("/dev/shm",)  # those of shm and mqueue that are mounted
    recursive_read_only: bool = True  # the kernel has mount_setattr(2)
    absent_abis: frozenset[str] = frozenset()  # by their names in libseccomp, see `abi`


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPaths:
    """Paths and namespaces of one container; netns "" is the host's network namespace."""

    id: str
    rootfs: str
    netns: str
    pid: str = "private"  # private, host, or the path of a namespace
    ipc: str = "private"
    shm: str = "own"  # /dev/shm: "own", "none", or the path of a tmpfs that is shared
    uts: str = "private"
    cgroup: str = ""
