"""Options of attach, logs, exec, update and commit, as the Engine API has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.apitypes import ApiObject
from runtime.container.config import Config, ConsoleSize, HostConfig


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


class ExecConfig(ApiObject):
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
    console_size: ConsoleSize | None = None


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

    Docker's client sends every key, most of them zero, so those that are not zero count as given;
    of PidsLimit, OomKillDisable and MemorySwappiness those that are not null.
    """

    given: list[str] = []  # noqa: RUF012  JSON names, sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """A `commit`.  `config` None: the container's own."""

    repo: str = ""  # "": the image gets no name
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True  # while its files are read
    changes: Sequence[str] = ()  # lines of a Dockerfile
    config: Config | None = None
