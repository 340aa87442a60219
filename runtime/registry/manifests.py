"""Manifests and indexes as values: parse, check, choose a platform.  Pure.

https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md, image-index.md, and Docker's
schema 2, which differs in media types only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import field

from netkit.errors import InvalidSpec, NotSupported
from runtime import limits, untrusted
from runtime.images.reference import DIGEST

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ACCEPT = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
_INDEXES = {OCI_INDEX, DOCKER_LIST}
_LAYERS = {OCI_LAYER, f"{OCI_LAYER}+gzip", f"{OCI_LAYER}+zstd", DOCKER_LAYER,
           "application/vnd.docker.image.rootfs.diff.tar",
           "application/vnd.docker.image.rootfs.diff.tar.zstd"}  # fmt: skip
_FOREIGN = ("nondistributable", "foreign")


class Platform(msgspec.Struct, frozen=True):
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True):
    digest: str
    size: int
    media_type: str = field(name="mediaType", default="")
    platform: Platform | None = None
    annotations: dict[str, Any] | None = None


class _Document(msgspec.Struct):
    schema_version: int = field(name="schemaVersion", default=0)
    media_type: str | None = field(name="mediaType", default=None)
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    manifests: tuple[Descriptor, ...]


def parse(raw: bytes, media_type: str, what: str) -> Manifest | Index:
    """Read a manifest or index that was sent as `media_type`.  InvalidSpec begins with `what`.

    NotSupported for what is no image: schema 1, plugins, artifacts, layers from elsewhere.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind.startswith(_SCHEMA1):
        raise _schema1(what)
    document = untrusted.decode(raw, what)
    try:
        found = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"{what} is malformed: {error}") from error
    if found.schema_version == 1:
        raise _schema1(what)
    if found.schema_version != 2:
        raise InvalidSpec(f"{what} is malformed: schemaVersion {found.schema_version}, not 2")
    own = found.media_type or kind
    if kind in {*ACCEPT} and own != kind:
        raise InvalidSpec(f"{what} says it is {own[:100]!r}, and was sent as {kind}")
    # Two readings of one digest are an attack on a client that compares digests (CVE-2021-41190).
    if found.manifests is not None and (found.config is not None or found.layers is not None):
        raise InvalidSpec(f"{what} is malformed: an index and a manifest at once")
    if found.manifests is not None and own in {*_INDEXES, "", "application/json"}:
        return Index(tuple(map(_checked(what), found.manifests)))
    if found.config is not None and own not in _INDEXES:
        return _manifest(found, own, what)
    raise NotSupported(f"{what} is no manifest of an image: its media type is {own[:100]!r}")


def _manifest(found: _Document, own: str, what: str) -> Manifest:
    assert found.config is not None
    if own not in {OCI_MANIFEST, DOCKER_MANIFEST, "", "application/json"}:
        raise NotSupported(f"{what} is no manifest of an image: its media type is {own[:100]!r}")
    check = _checked(what)
    config = check(found.config)
    if config.media_type not in {OCI_CONFIG, DOCKER_CONFIG}:
        raise NotSupported(
            f"{what} is no image but something else: its configuration is "
            f"{config.media_type[:100]!r}"
        )
    if config.size > limits.DOCUMENT_BYTES:
        raise InvalidSpec(f"{what}: a configuration of {config.size} bytes is too long")
    layers = [check(layer) for layer in found.layers or ()]
    if len(layers) > limits.IMAGE_LAYERS:
        raise InvalidSpec(f"{what} has {len(layers)} layers: at most {limits.IMAGE_LAYERS}")
    for layer in layers:
        if any(word in layer.media_type for word in _FOREIGN):
            raise NotSupported(f"{what} has a layer that is kept elsewhere ({layer.media_type})")
        if layer.media_type not in _LAYERS:
            raise NotSupported(f"{what} has a layer of media type {layer.media_type[:100]!r}")
    return Manifest(config, tuple(layers))


def _checked(what: str):  # type: ignore[no-untyped-def]
    def check(entry: Descriptor) -> Descriptor:
        if not DIGEST.fullmatch(entry.digest):
            raise InvalidSpec(f"{what} has a malformed digest: {entry.digest[:100]!r}")
        if not 0 <= entry.size <= limits.LAYER_BYTES:
            raise InvalidSpec(
                f"{what}: a size of {entry.size} bytes is not between 0 and {limits.LAYER_BYTES}"
            )
        return entry

    return check


def _schema1(what: str) -> NotSupported:
    return NotSupported(
        f"{what} is of schema 1, which Docker has removed as well: its author has to push it as "
        "an OCI image or Docker schema 2"
    )


# Platforms

_SAME = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_ARM = ("v8", "v7", "v6", "v5")


def host() -> Platform:
    machine = os.uname().machine
    if machine.startswith("armv"):
        return Platform("linux", "arm", f"v{machine[4]}")
    return Platform("linux", _SAME.get(machine, machine))


def platform(text: str) -> Platform:
    """The platform os[/arch[/variant]]; this host's for "".  InvalidSpec."""
    ours = host()
    if not text:
        return ours
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(p and p.replace("_", "").isalnum() for p in parts):
        raise InvalidSpec(f"{text[:60]!r}: invalid platform: use os/arch[/variant]")
    if len(parts) == 1 and parts[0] != "linux":
        parts = ["linux", parts[0]]
    architecture = parts[1] if len(parts) > 1 else ours.architecture or ""
    if parts[0] != "linux":
        raise InvalidSpec(f'operating system "{parts[0]}" is not supported: images are for linux')
    variant = parts[2] if len(parts) > 2 else None
    return Platform("linux", _SAME.get(architecture, architecture), variant)


def choose(index: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The entry for a platform: the closest variant, and of several the first."""
    best: tuple[int, Descriptor] | None = None
    for entry in index:
        if entry.media_type.startswith(_SCHEMA1):
            continue
        rank = _rank(entry.platform, wanted)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, entry
    return best[1] if best else None


def fits(have: Platform, wanted: Platform) -> bool:
    return _rank(have, wanted) is not None


def _rank(have: Platform | None, wanted: Platform) -> int | None:
    """How far `have` is from `wanted`, 0 for equal; None if it does not run there."""
    if have is None or have.os != wanted.os or have.architecture != wanted.architecture:
        return None
    if have.architecture == "arm":
        mine, most = have.variant or "v7", wanted.variant or "v7"
        if mine not in _ARM or most not in _ARM or _ARM.index(mine) < _ARM.index(most):
            return None
        return _ARM.index(mine) - _ARM.index(most)
    if have.architecture == "arm64":
        return 0 if (have.variant or "v8") == (wanted.variant or "v8") else None
    if (have.variant or "") == (wanted.variant or ""):
        return 0
    return 1 if not have.variant else None  # amd64 runs on amd64/v3, not the other way round


def of_configuration(raw: bytes) -> Platform:
    """What an image's configuration says it is for.  InvalidSpec."""
    try:
        return msgspec.convert(untrusted.decode(raw, "the configuration"), Platform)
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"the configuration is malformed: {error}") from error
