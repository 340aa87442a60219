"""Make an image of a root file system's tar: `docker import`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import netkit
from netkit.errors import InvalidSpec
from netkit.timestamps import rfc3339
from runtime.apitypes import Upload
from runtime.dockerfile import changes
from runtime.images import config
from runtime.images.blobs import BlobWriter
from runtime.images.contents import ImageContents
from runtime.images.reference import parse
from runtime.tar.stream import Source, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    repo: str = ""  # "": the image gets no name
    tag: str = ""
    message: str = ""
    changes: Sequence[str] = ()  # lines of a Dockerfile
    source: str = "-"  # where the tar is from, for the history
    platform: str = ""  # os[/architecture[/variant]]; "": this host's


def import_image(store: ImageContents, tar: Upload, request: ImportRequest) -> str:
    """The id of the image.  InvalidSpec before anything of the tar is read, if it can be known."""
    tag = f":{request.tag}" if request.tag else ""
    name = parse(f"{request.repo}{tag}") if request.repo else None
    created = rfc3339()
    rootfs: dict[str, Any] = {"type": "layers", "diff_ids": []}
    comment = request.message or f"Imported from {request.source}"
    document = {
        **_platform(request.platform),
        "created": created,
        "docker_version": netkit.__version__,
        "config": changes.apply({}, request.changes),
        "rootfs": rootfs,
        "history": [{"created": created, "comment": comment}],
    }
    config.check_writable(document)
    with store.holding():
        with whole(), store.blobs.writer() as blob:
            # One pass over the upload: unpacked as a layer and stored as a blob.
            rootfs["diff_ids"] = [store.layers.add(_Tee(tar, blob))]
            digest = blob.commit()
        tar.check()  # the client may have disconnected since the last read
        return store.add(document, [digest], [name] if name else [])


def _platform(text: str) -> dict[str, str]:
    if not text:
        return {"architecture": config.architecture(), "os": "linux"}
    system, _, rest = text.lower().partition("/")
    machine, _, variant = rest.partition("/")
    if system != "linux":
        raise InvalidSpec(f"operating system {system[:60]!r} is not supported: images are linux's")
    found = {"os": system, "architecture": _KNOWN.get(machine, machine) or config.architecture()}
    return found | ({"variant": variant} if variant else {})


_KNOWN = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}


class _Tee:
    """Reads from a source, and copies what was read to a blob."""

    def __init__(self, source: Source, copy: BlobWriter) -> None:
        self._source, self._copy = source, copy

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._copy.write(data)
        return data
