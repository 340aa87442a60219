"""What may be asked of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtime.containers.config import Doc
from runtime.ports import Filters


class ImageConfig(Doc):
    """The `config` object of an OCI image configuration; healthchecks are Docker's addition."""

    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, Any]] | None = None
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
    created: str  # RFC 3339, or "" for an image that does not say
    size: int  # bytes of all layers, unpacked
    config: ImageConfig
    layers: tuple[str, ...]  # diff ids, lowest first
    document: dict[str, Any] = field(compare=False)  # the whole configuration document
    tagged: str = ""  # RFC 3339 time at which it last got a name; "" if never


class Upload(Protocol):
    """Bytes that a client sends."""

    def read(self, size: int = -1, /) -> bytes:
        """ConnectionResetError once the client has left."""
        ...

    def check(self) -> None:
        """For work that does not read: ConnectionResetError once the client has left."""
        ...


class Images(Protocol):
    def find(self, ref: str) -> Image:
        """By familiar or full name, id or unique id prefix.  NotFound "No such image: x"."""
        ...

    def all(self) -> list[Image]: ...

    def import_(
        self, tar: Upload, *, repo: str, tag: str, message: str, changes: Sequence[str]
    ) -> str:
        """A root file system tar (plain, gzip, bz2, xz, zstd) as an image; its id."""
        ...

    def load(self, tar: Upload) -> Iterator[str]:
        """A docker-save or OCI archive; yields "Loaded image: x" lines as they come."""
        ...

    def save(self, refs: Sequence[str]) -> Iterator[bytes]:
        """An archive that is both docker-save and OCI layout."""
        ...

    def tag(self, ref: str, repo: str, tag: str) -> None: ...

    def remove(self, ref: str, *, force: bool, prune: bool) -> list[dict[str, str]]:
        """[{"Untagged": "x:1"}, {"Deleted": "sha256:..."}] as docker rmi prints them."""
        ...

    def shared_sizes(self) -> dict[str, int]:
        """Bytes of the layers that an image has in common with others, by image id."""
        ...

    def history(self, ref: str) -> list[dict[str, Any]]: ...
    def prune(self, filters: Filters) -> tuple[list[dict[str, str]], int]: ...
