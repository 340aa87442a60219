"""Container: the document that is stored, and shown by `inspect`."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from runtime.apitypes import ApiObject
from runtime.container.config import Config, EndpointSettings, HostConfig

ZERO_TIME = "0001-01-01T00:00:00Z"  # Go's zero time, what Docker shows for "never"
# In `extra` of a container of a running build; it is removed if the daemon is killed meanwhile.
BUILD_MARK = "build"


class HealthLog(ApiObject):
    start: str
    end: str
    exit_code: int
    output: str


class HealthState(ApiObject):
    status: str = "starting"  # starting, healthy, unhealthy
    failing_streak: int = 0
    log: list[HealthLog] = msgspec.field(default_factory=list)


class State(ApiObject):
    """`status` is one of created, running, paused, restarting, removing, exited, dead."""

    status: str = "created"
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ZERO_TIME
    finished_at: str = ZERO_TIME
    health: HealthState | None = None

    @property
    def alive(self) -> bool:
        """Has a process: running or paused."""
        return self.status in {"running", "paused"}

    @property
    def ever_started(self) -> bool:
        return self.started_at != ZERO_TIME


class MountPoint(ApiObject):
    """One entry of inspect's Mounts."""

    type: str  # bind, tmpfs, volume, image
    source: str = ""
    destination: str = ""
    mode: str = ""
    rw: bool = msgspec.field(default=True, name="RW")
    propagation: str = ""
    name: str = ""  # of a volume; of an image as the user gave it
    driver: str = ""  # of a volume
    # not shown
    anonymous: bool = False  # the user gave the volume no name: `rm -v` removes it
    no_copy: bool = False  # a new volume does not get the image's files
    subpath: str = ""  # in the volume or image
    image: str = ""  # id of the image


class Container(msgspec.Struct, kw_only=True):
    """Stored as JSON under its id.  Times are RFC 3339 with nanoseconds, UTC."""

    id: str  # 64 hex digits
    name: str  # without the leading slash
    created: str
    image: str  # image id, "sha256:..."
    config: Config
    host_config: HostConfig
    networks: dict[str, EndpointSettings] = msgspec.field(default_factory=dict)  # by name
    mounts: list[MountPoint] = msgspec.field(default_factory=list)
    state: State = msgspec.field(default_factory=State)
    restart_count: int = 0
    manually_stopped: bool = False  # by `stop` or `kill`: the restart policy is suspended
    boot_id: str = ""  # of the host, when it last ran
    # "pending" (an operation in progress), links, and paths that `inspect` shows
    extra: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def building(self) -> bool:
        """Does a running build need it?  No prune takes it then."""
        return BUILD_MARK in self.extra

    @property
    def path(self) -> str:
        return (self.command or [""])[0]

    @property
    def args(self) -> list[str]:
        return self.command[1:]

    @property
    def command(self) -> list[str]:
        return [*(self.config.entrypoint or []), *(self.config.cmd or [])]


class CreatedContainer(NamedTuple):
    id: str
    warnings: list[str]


class ContainerSizes(NamedTuple):
    """Bytes: of what the container wrote, and of that with its image."""

    written: int  # SizeRw
    rootfs: int  # SizeRootFs


class ProcessTable(NamedTuple):
    """What `ps` prints of a container's processes."""

    titles: list[str]
    processes: list[list[str]]
