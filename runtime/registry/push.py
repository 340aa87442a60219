"""Push an image: layers first, then the configuration, then the manifest with its tag."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from netkit.errors import InvalidSpec
from runtime.cancellation import Cancel
from runtime.images.model import Image
from runtime.images.pulling import Progress
from runtime.images.store import ImageStore
from runtime.registry import manifests
from runtime.registry.endpoints import Repository
from runtime.registry.gzipping import compressed
from runtime.registry.known import KnownBlobs
from runtime.registry.progress import LayerProgress, message
from runtime.registry.pull import Slots, finish
from runtime.registry.session import Session
from runtime.registry.settings import RegistrySettings
from runtime.registry.upload import Content, Sent, Upload
from runtime.tar.compression import Unpacked

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class _Layer:
    diff_id: str
    blob: str  # as it is in the store
    form: str  # "gzip", "zstd" or "" for what has to be compressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One push to one endpoint."""

    store: ImageStore
    known: KnownBlobs
    slots: Slots
    session: Session
    settings: RegistrySettings
    repository: Repository
    progress: Progress
    cancel: Cancel

    def one(self, image: Image, tag: str) -> str:
        """Push an image under a tag; the digest of the manifest."""
        layers = self._stored(image)
        reports = {
            layer.diff_id: LayerProgress(self.progress, layer.diff_id) for layer in layers
        }  # fmt: skip
        for diff_id in reversed(reports):
            reports[diff_id].say("Preparing")
        sent: dict[str, Sent] = {}
        upload = Upload(self.session, self.repository, self.known, self.settings)
        with ThreadPoolExecutor(max(self.settings.uploads, 1), "netkit-push") as pool:
            todo = list({layer.diff_id: layer for layer in layers}.values())
            for layer in todo[self.settings.uploads :]:
                reports[layer.diff_id].say("Waiting")
            jobs = [
                pool.submit(self._layer, upload, layer, reports[layer.diff_id], sent)
                for layer in todo
            ]
            finish(jobs, self.cancel)
        config = self.store.blobs.get(image.id)
        if upload.size(image.id) is None:
            content = Content(open=lambda: iter([config]), size=len(config), digest=image.id)
            upload.send(content, None, None)
        raw, kind = _manifest(image.id, len(config), layers, sent)
        digest = self._tagged(tag, raw, kind)
        message(self.progress, f"{tag}: digest: {digest} size: {len(raw)}")
        self.progress({
            "progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": len(raw)}
        })  # fmt: skip
        return digest

    def _stored(self, image: Image) -> list[_Layer]:
        listed = self.store.manifest(image.id)[1]["layers"]
        blobs = [str(entry["digest"]) for entry in listed]
        return [
            _Layer(diff_id, blob, self._form(blob))
            for diff_id, blob in zip(image.layers, blobs, strict=True)
        ]

    def _form(self, blob: str) -> str:
        with open(self.store.blobs.path(blob), "rb") as file:
            head = file.read(4)
        return "gzip" if head.startswith(_GZIP) else "zstd" if head == _ZSTD else ""

    # layers

    def _layer(
        self, upload: Upload, layer: _Layer, report: LayerProgress, sent: dict[str, Sent]
    ) -> None:
        with self.slots.transfer(self.cancel):
            sent[layer.diff_id] = self._there(upload, layer, report) or self._sent(
                upload, layer, report
            )

    def _digest(self, layer: _Layer) -> tuple[str, int] | None:
        """Digest and size of what would be sent, if that is known without compressing."""
        if layer.form:
            return layer.blob, self.store.blobs.size(layer.blob)
        return self.known.compressed(layer.diff_id)

    def _there(self, upload: Upload, layer: _Layer, report: LayerProgress) -> Sent | None:
        """The layer, if the repository has it already."""
        found = self._digest(layer)
        if found is None or upload.size(found[0]) is None:
            return None
        report.say("Layer already exists")
        self.known.seen(found[0], self.repository)
        return Sent(*found)

    def _sent(self, upload: Upload, layer: _Layer, report: LayerProgress) -> Sent:
        found, begun = self._digest(layer), None
        if found is not None:
            for origin in self.known.places(found[0], self.repository)[:1]:
                begun = upload.mount(found[0], origin)
                if begun is None and upload.size(found[0]) is not None:
                    report.say(f"Mounted from {origin}")
                    self.known.seen(found[0], self.repository)
                    return Sent(*found)
                self.known.gone(found[0], self.repository.registry, origin)
        content = self._content(layer)
        sent = upload.send(content, report, begun)
        if not layer.form:
            self.known.compressed_to(layer.diff_id, sent.digest, sent.size)
        report.say("Pushed")
        return sent

    def _content(self, layer: _Layer) -> Content:
        path, size = self.store.blobs.path(layer.blob), self.store.blobs.size(layer.blob)
        if layer.form:
            return Content(
                open=lambda: self.store.blobs.stream(layer.blob), size=size, digest=layer.blob
            )
        done = [0]

        def read(data: bytes) -> bytes:
            done[0] += len(data)
            return data

        def pieces() -> Iterator[bytes]:
            done[0] = 0
            with open(path, "rb") as file, Unpacked(file) as source:
                yield from compressed(lambda n: read(source.read(n)), self.cancel)
                if source.digest != layer.diff_id:
                    raise InvalidSpec(f"layer {layer.diff_id} in the image store is damaged")

        return Content(open=pieces, size=size, read=lambda: done[0])

    # the manifest

    def _tagged(self, tag: str, raw: bytes, kind: str) -> str:
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        answer = self.session.ask(
            "PUT", f"{self.repository.path}/manifests/{tag}", headers={"Content-Type": kind},
            body=raw, scopes=(f"repository:{self.repository.path}:push,pull",),
        )  # fmt: skip
        if answer.status not in {200, 201, 202}:
            raise self.session.refused(answer)
        answer.document()
        theirs = answer.headers.get("Docker-Content-Digest", digest)
        if theirs != digest:
            raise InvalidSpec(f"the registry stored the manifest as {theirs[:100]!r}, not {digest}")
        return digest


def _manifest(
    config: str, size: int, layers: list[_Layer], sent: dict[str, Sent]
) -> tuple[bytes, str]:
    """(document, media type): Docker's schema 2 to the byte; OCI's where a layer is in zstd."""
    oci = any(layer.form == "zstd" for layer in layers)
    kind = manifests.OCI_MANIFEST if oci else manifests.DOCKER_MANIFEST

    def entry(media_type: str, digest: str, length: int) -> dict[str, Any]:
        return {"mediaType": media_type, "size": length, "digest": digest}

    def media_type(layer: _Layer) -> str:
        form = layer.form or "gzip"
        return f"{manifests.OCI_LAYER}+{form}" if oci else manifests.DOCKER_LAYER

    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": entry(manifests.OCI_CONFIG if oci else manifests.DOCKER_CONFIG, config, size),
        "layers": [
            entry(media_type(layer), sent[layer.diff_id].digest, sent[layer.diff_id].size)
            for layer in layers
        ],
    }
    return json.dumps(document, indent=3).encode(), kind
