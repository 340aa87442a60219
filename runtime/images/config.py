"""Parse and validate image configurations, which are untrusted input.  Pure."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from netkit.errors import InvalidSpec
from netkit.timestamps import epoch_ns, is_rfc3339
from runtime import limits, untrusted
from runtime.apitypes import Health
from runtime.images.model import Image, ImageConfig
from runtime.images.reference import DIGEST


class _RootFs(msgspec.Struct):
    diff_ids: list[str] | None = None


class _History(msgspec.Struct):
    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _Document(msgspec.Struct):
    """The fields of a configuration that are used: https://github.com/opencontainers/image-spec
    config.md, and Docker's additions.  Other keys are preserved and ignored."""

    rootfs: _RootFs
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    docker_version: str | None = None
    history: list[_History] | None = None
    config: dict[str, Any] | None = None


def architecture() -> str:
    """This host's, as images name it."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def parse(raw: bytes, what: str = "image configuration") -> dict[str, Any]:
    """Parse a configuration.  InvalidSpec if it is not one of a Linux image."""
    if len(raw) > limits.DOCUMENT_BYTES:
        raise InvalidSpec(f"{what} is over {limits.DOCUMENT_BYTES} bytes long")
    return checked(untrusted.decode(raw, what))


def checked(document: object) -> dict[str, Any]:
    """InvalidSpec if it is not a configuration of a Linux image."""
    if not isinstance(document, dict) or "manifests" in document or "layers" in document:
        raise InvalidSpec("not an image configuration")
    if document.get("rootfs") is None:
        raise InvalidSpec("invalid image JSON, no RootFS key")
    try:
        found = msgspec.convert(document, _Document)
    except msgspec.ValidationError as e:
        raise InvalidSpec(f"image configuration is malformed: {e}") from e
    ids = found.rootfs.diff_ids or []
    if not all(DIGEST.fullmatch(d) for d in ids):
        raise InvalidSpec("image configuration without valid diff_ids")
    if len(ids) > limits.IMAGE_LAYERS:
        raise InvalidSpec(
            f"image has {len(ids)} layers: at most {limits.IMAGE_LAYERS} are possible"
        )
    if found.os not in {"linux", "", None}:
        raise InvalidSpec(f"image is for {found.os[:60]!r}, not for linux")
    for time in (found.created, *(h.created for h in found.history or ())):
        if time and not is_rfc3339(time):
            raise InvalidSpec(
                f"image configuration is malformed: {time[:60]!r} is no RFC 3339 time"
            )
    config = image_config(document)
    if config.healthcheck is not None:
        _convert(config.healthcheck, Health)
    return document


def check_writable(document: dict[str, Any]) -> None:
    """Check a document generated here as an untrusted one: it must be loadable.  InvalidSpec."""
    parse(json.dumps(document).encode())


def salvaged(raw: bytes) -> dict[str, Any]:
    """Recover the valid parts of an invalid document: a stored image keeps its layers and
    configuration as far as they can be read."""
    try:
        found = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {"rootfs": {}}
    good: dict[str, Any] = {"rootfs": {}}
    for key in ("rootfs", *_Document.__struct_fields__) if isinstance(found, dict) else ():
        try:
            text = json.dumps({**good, key: found[key]}).encode()
            good = checked(untrusted.decode(text, key))
        except (InvalidSpec, KeyError, ValueError, RecursionError):
            continue
    return good


def layers_of(document: dict[str, Any]) -> tuple[str, ...]:
    return tuple((document.get("rootfs") or {}).get("diff_ids") or ())


def image_config(document: dict[str, Any]) -> ImageConfig:
    config = document.get("config") or {}
    if not isinstance(config, dict):
        raise InvalidSpec("image configuration is malformed: config is no object")
    zeros = {key: _with_zeros(config.get(key), zero) for key, zero in _ZEROS}
    found: ImageConfig = _convert({**config, **zeros}, ImageConfig)
    return found


# Docker writes null for them.  Copied into containers' documents it could not be decoded again.
_ZEROS: tuple[tuple[str, object], ...] = (("ExposedPorts", {}), ("Volumes", {}), ("Labels", ""))


def _with_zeros(value: object, zero: object) -> object:
    """Replace null by the zero value, as Go does."""
    if not isinstance(value, dict):
        return value
    return {k: zero if v is None else v for k, v in value.items()}


def _convert(value: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert({k: v for k, v in value.items() if v is not None}, kind)
    except msgspec.ValidationError as e:
        raise InvalidSpec(f"image configuration is malformed: {e}") from e


def history(image: Image, sizes: Sequence[int], parents: Iterable[Image]) -> list[dict[str, Any]]:
    """History of an image in the format of the API, newest first.

    `sizes`: bytes of layers.  `parents`: images that it was made from here, the next one first; the
    steps of the others have no id.
    """
    # History entries and layers are in the same order; entries with empty_layer have no layer.
    left = list(sizes)
    out: list[dict[str, Any]] = []
    for entry in image.document.get("history") or ():
        size = 0 if entry.get("empty_layer") or not left else left.pop(0)
        out.append({
            "Id": "<missing>",
            "Created": epoch_ns(entry.get("created") or "") // 1_000_000_000,
            "CreatedBy": entry.get("created_by") or "",
            "Tags": None,
            "Size": size,
            "Comment": entry.get("comment") or "",
        })  # fmt: skip
    out.reverse()
    for step, known in zip(out, chain([image], parents), strict=False):
        step |= {"Id": known.id, "Tags": list(known.tags) or None}
    return out
