"""Images and their configuration, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime.apitypes import ApiObject


class ImageConfig(ApiObject):
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
    created: str  # RFC 3339, or "" if the configuration has none
    size: int  # bytes of all layers, unpacked
    config: ImageConfig
    layers: tuple[str, ...]  # diff ids, lowest first
    document: dict[str, Any] = field(compare=False)  # the whole configuration document
    folders: tuple[str, ...] = ()  # of the layers' files, lowest first
    parent: str = ""  # id of the image that it was made from here, "" if there is none
    tagged: str = ""  # RFC 3339 time at which it last got a name; "" if never
