"""What may be asked of containers, and of further processes in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from runtime.containers.config import CreateRequest, Doc, EndpointSettings, HostConfig
from runtime.containers.model import Container
from runtime.ports import Filters
from runtime.ports.images import Upload


class Stream(Protocol):
    """A hijacked connection: raw bytes in; frames out (multiplexed unless a terminal)."""

    async def read(self) -> bytes:
        """Next bytes from the client; b"" once it has closed its sending side."""
        ...

    async def write(self, channel: int, data: bytes) -> None:
        """Send output of channel 1 (stdout), 2 (stderr) or 3 (error); waits for a slow client.

        Raises ConnectionError once the client is gone.
        """
        ...

    async def close(self) -> None: ...


class Attachment(Protocol):
    """Permission to talk to one process; obtained before the connection is hijacked."""

    tty: bool

    async def run(self, stream: Stream) -> None:
        """Copy both ways until the process ends, the client leaves or the detach keys come."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOptions:
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False  # first what was logged so far
    stream: bool = True  # then what comes
    detach_keys: str | None = None  # "ctrl-p,ctrl-q"; None: the default


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    stdout: bool = True
    stderr: bool = True
    since: float = 0  # seconds since the epoch
    until: float = 0  # 0: no limit
    timestamps: bool = False
    follow: bool = False
    tail: int | None = None  # None: all
    details: bool = False


class ExecConfig(Doc):
    """Body of POST /containers/X/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None
    console_size: list[int] | None = None


@dataclass(slots=True, kw_only=True)
class Exec:
    id: str
    container: str
    config: ExecConfig
    running: bool = False
    exit_code: int | None = None
    pid: int = 0


class UpdateRequest(HostConfig):
    """Body of POST /containers/X/update: only the keys in `given` count.

    Docker's client sends every key, most of them zero, so given are those that are not zero;
    of PidsLimit, OomKillDisable and MemorySwappiness those that are not null.
    """

    given: list[str] = []  # noqa: RUF012  JSON names, sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStat:
    """A file in a container.  `mode` is a Unix st_mode; `link` the target of a symlink."""

    name: str
    size: int
    mode: int
    mtime: str  # RFC 3339
    link: str = ""


class Containers(Protocol):
    def create(self, request: CreateRequest, name: str | None) -> tuple[str, list[str]]:
        """A new container; its id and warnings.  NotFound "No such image: x"."""
        ...

    def find(self, ref: str) -> Container: ...
    def all(self) -> list[Container]: ...

    def start(self, ref: str) -> bool:
        """False if it was running already."""
        ...

    def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> bool:
        """Ask by signal, after `timeout` seconds kill.  False if it was not running."""
        ...

    def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None: ...
    def kill(self, ref: str, signal: str = "KILL") -> None: ...
    def pause(self, ref: str) -> None: ...
    def unpause(self, ref: str) -> None: ...
    def rename(self, ref: str, name: str) -> None: ...
    def update(self, ref: str, request: UpdateRequest) -> list[str]: ...
    def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None: ...

    def prune(self, filters: Filters) -> tuple[list[str], int]:
        """Remove stopped ones; their ids and the bytes won back."""
        ...

    def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]: ...

    def changes(self, ref: str) -> list[tuple[str, int]]:
        """Paths with 0 modified, 1 added, 2 deleted; sorted by path."""
        ...

    def sizes(self, ref: str) -> tuple[int, int]:
        """(SizeRw, SizeRootFs) in bytes."""
        ...

    def resize(self, ref: str, height: int, width: int) -> None: ...
    def export(self, ref: str) -> Iterator[bytes]: ...
    def stat_path(self, ref: str, path: str) -> PathStat: ...
    def get_archive(self, ref: str, path: str) -> tuple[PathStat, Iterator[bytes]]: ...

    def put_archive(
        self, ref: str, path: str, tar: Upload, *, no_overwrite_dir: bool, copy_uid_gid: bool
    ) -> None: ...

    def stats(self, ref: str) -> dict[str, Any]:
        """One sample in the shape of the API, without precpu_stats.  Zeroes when not running."""
        ...

    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        """`network connect`: joins at once when running, else it is recorded for the start."""
        ...

    def disconnect(self, ref: str, network: str, *, force: bool) -> None: ...

    def network_settings(self, ref: str) -> dict[str, Any]:
        """NetworkSettings of inspect, complete."""
        ...

    def waiter(self, ref: str, condition: str) -> Awaitable[tuple[int, str]]:
        """Registers now; gives (exit code, error) when `not-running`, `next-exit` or `removed`."""
        ...

    def attach(self, ref: str, options: AttachOptions) -> Attachment: ...
    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[tuple[int, bytes]]: ...


class Execs(Protocol):
    def create(self, ref: str, config: ExecConfig) -> str: ...
    def find(self, id: str) -> Exec: ...
    def of(self, container_id: str) -> list[str]: ...
    def start(
        self, id: str, *, detach: bool, tty: bool, size: tuple[int, int] | None = None
    ) -> Attachment | None:
        """Starts at once if detached (gives None), else when the attachment runs.

        `size` is the terminal's (height, width) if the client knows it.
        """
        ...

    def resize(self, id: str, height: int, width: int) -> None: ...
