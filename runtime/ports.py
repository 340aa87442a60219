"""What the front ends may ask of the engine: small Protocols, implemented in runtime/ and netkit/.

Plain methods are synchronous and may block for as long as the work takes: front ends call them
in a worker thread.  Coroutines and async iterators run on the daemon's event loop; `waiter`,
`logs` and `subscribe` are called there too, must not block, and have registered (or failed, if
the request is wrong) by the time they first wait.  Every error
is a netkit.errors.NetkitError whose `status` is the HTTP status.  `ref` is a full id, a name
(with or without the leading slash) or a unique id prefix, in this order of preference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from netkit.spec import EndpointRecord, NetworkRecord, NetworkSpec
from netkit.trace.leg import Ask, Leg, Place
from runtime.containers.config import CreateRequest, Doc, EndpointSettings, HostConfig
from runtime.containers.model import Container

Filters = Mapping[str, Sequence[str]]  # {"label": ["a=b"], "status": ["exited"]}


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
        self, ref: str, path: str, tar: BinaryIO, *, no_overwrite_dir: bool, copy_uid_gid: bool
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


class ImageConfig(Doc):
    """The `config` object of an OCI image configuration; healthchecks are Docker's addition."""

    user: str = ""
    exposed_ports: dict[str, Any] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    healthcheck: dict[str, Any] | None = None
    shell: list[str] | None = None
    on_build: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    id: str  # "sha256:..." of its configuration
    tags: tuple[str, ...]  # familiar: "busybox:latest", "127.0.0.1:5000/x:1"
    digests: tuple[str, ...]  # "busybox@sha256:..."
    created: str
    size: int  # bytes of all layers, unpacked
    config: ImageConfig
    layers: tuple[str, ...]  # diff ids, lowest first
    document: dict[str, Any] = field(compare=False)  # the whole configuration document


class Images(Protocol):
    def find(self, ref: str) -> Image:
        """By familiar or full name, id or unique id prefix.  NotFound "No such image: x"."""
        ...

    def all(self) -> list[Image]: ...

    def import_(
        self, tar: BinaryIO, *, repo: str, tag: str, message: str, changes: Sequence[str]
    ) -> str:
        """A root file system tar (plain, gzip, bz2, xz, zstd) as an image; its id."""
        ...

    def load(self, tar: BinaryIO) -> Iterator[str]:
        """A docker-save or OCI archive; yields "Loaded image: x" lines as they come."""
        ...

    def save(self, refs: Sequence[str]) -> Iterator[bytes]:
        """An archive that is both docker-save and OCI layout."""
        ...

    def tag(self, ref: str, repo: str, tag: str) -> None: ...

    def remove(self, ref: str, *, force: bool, prune: bool) -> list[dict[str, str]]:
        """[{"Untagged": "x:1"}, {"Deleted": "sha256:..."}] as docker rmi prints them."""
        ...

    def history(self, ref: str) -> list[dict[str, Any]]: ...
    def prune(self, filters: Filters) -> tuple[list[dict[str, str]], int]: ...


class Events(Protocol):
    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """From any thread."""
        ...

    def subscribe(
        self, since: float, until: float, filters: Filters
    ) -> AsyncIterator[dict[str, Any]]:
        """First what is remembered since then, then what comes; ends at `until` if given."""
        ...


class System(Protocol):
    def info(self) -> dict[str, Any]: ...
    def version(self) -> dict[str, Any]: ...
    def disk_usage(self, types: Iterable[str]) -> dict[str, Any]:
        """{"LayersSize": bytes}, and Images, Containers, Volumes, BuildCache where the engine
        knows better than what the API makes of the other ports."""
        ...


class Networks(Protocol):
    """The part of netkit.service.NetworkService front ends use; emits the events.

    Joining and leaving is the containers'.
    """

    def create(self, spec: NetworkSpec) -> tuple[NetworkRecord, list[str]]: ...
    def remove(self, ref: str) -> object: ...
    def find(self, ref: str) -> NetworkRecord: ...
    def all(self) -> list[NetworkRecord]: ...

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        """Live endpoints of a network, of a sandbox, or all."""
        ...

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        """Other hosts a network has tunnels to, in the shape of the API: Name, IP, State."""
        ...

    def prune(self, filters: Filters) -> list[str]:
        """Remove networks without endpoints, except the builtin ones; their names."""
        ...


class AccessRequest(Doc):
    """Body of POST /netkit/firewall/access; the source is `sources` (CIDR) or a container."""

    verdict: str = ""
    sources: list[str] | None = None
    container: str = ""
    to: str = ""
    port: str = ""  # 80/tcp, 8000-8010/udp; "": all
    published: bool = False  # the port is the host's
    first: bool = False  # before all other rules


class Firewall(Protocol):
    """Who may reach whom.  Objects are in the shape of the API."""

    def rules(self, ref: str = "") -> list[dict[str, Any]]:
        """Access rules, in order; of one container if `ref` names one."""
        ...

    def add(self, request: AccessRequest) -> dict[str, Any]:
        """The rule, with what it does not do as "Warnings"."""
        ...

    def remove(self, ref: str) -> dict[str, Any]: ...

    def drift(self) -> list[str]:
        """What another tool changed, as lines of a diff."""
        ...

    def repair(self) -> list[str]: ...
    def show(self, ref: str = "") -> dict[str, Any]: ...

    def explain(self, source: str, target: str, port: str) -> dict[str, Any]:
        """{"Text", "Explanation"}: which rule decides about a packet.  See netkit.explain."""
        ...


class Trace(Protocol):
    """This host's part of the way of a packet.  See netkit.trace."""

    def leg(self, ask: Ask) -> Leg: ...

    def place(self, name: str) -> Place:
        """Who has that name, id or address.  NotFound if nobody here."""
        ...


class Cluster(Protocol):
    """This host's part in a cluster."""

    def init(self, address: str) -> dict[str, Any]:
        """Begin one, known to others by `address`, "" as it routes; its status."""
        ...

    def join(self, other: str, address: str) -> dict[str, Any]:
        """Be one more server of the cluster of host `other`; its status."""
        ...

    def leave(self, host: str = "", *, force: bool = False) -> None:
        """This host, or another that is gone for good.  Forbidden while containers of this one
        are on global networks.  By `force` without asking the others, who may all be dead."""
        ...

    def status(self) -> dict[str, Any]:
        """Servers, leader, hosts, problems.  Does not wait for the cluster."""
        ...


class Engine(Protocol):
    """Everything a front end is given.

    In the filters of all `prune` methods `until` is in seconds since the epoch, as text.
    """

    @property
    def containers(self) -> Containers: ...
    @property
    def execs(self) -> Execs: ...
    @property
    def images(self) -> Images: ...
    @property
    def events(self) -> Events: ...
    @property
    def system(self) -> System: ...
    @property
    def networks(self) -> Networks: ...
    @property
    def firewall(self) -> Firewall: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def cluster(self) -> Cluster: ...
