"""Implements ports.Images: add, tag, save and remove images; sweep unreferenced content."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from netkit import threads
from netkit.errors import Conflict, NotFound
from netkit.store import Database
from netkit.timestamps import epoch_ns, rfc3339
from runtime.apitypes import Upload
from runtime.dockerfile import changes as dockerfile_changes
from runtime.filters import Filters, PrunedImages, PruneFilter
from runtime.images import archive, config, loading
from runtime.images.blobs import Blobs, BlobWriter, encoded
from runtime.images.config import history, layers_of
from runtime.images.layers import Layers
from runtime.images.model import Image
from runtime.images.records import Records
from runtime.images.reference import Reference, parse
from runtime.images.tags import TagStore
from runtime.tar.stream import Source

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class ImageUser(NamedTuple):
    """A container made from an image."""

    id: str
    name: str
    alive: bool


Users = Callable[[str], Sequence[ImageUser]]  # by the id of an image


class ImageStore:
    """Thread-safe.  Changes to names and images take one lock, reads take none."""

    def __init__(self, root: Path, database: Database, users: Users) -> None:
        self.blobs = Blobs(root)
        self.layers = Layers(root / "layers")
        self._tag_store = TagStore(database)
        self._users = users
        self._lock = threading.RLock()
        self._records = Records(self._tag_store, self.blobs, self.layers)
        self._incoming = 0  # loads and imports in progress: no sweep, their content has no name yet
        self._sweep()

    # looking

    def find(self, ref: str) -> Image:
        return self._records.image(self._tag_store.find(ref))

    def all(self) -> list[Image]:
        images = [self._records.image(id) for id in self._tag_store.ids()]
        return sorted(images, key=lambda i: epoch_ns(i.created), reverse=True)

    def shared_sizes(self) -> dict[str, int]:
        return self._records.shared_sizes(self.all())

    def history(self, ref: str) -> list[dict[str, Any]]:
        """History of an image in the format of the API, newest first."""
        image = self.find(ref)
        return history(image, [self._records.layer_size(d) for d in image.layers])

    def layers_of(self, id: str) -> tuple[str, ...]:
        """Diff ids of an image's layers, lowest first; also of one deleted with force."""
        return layers_of(self._records.document(id)[0])

    def layer_sizes(self, id: str) -> list[tuple[str, int]]:
        """(diff id, unpacked bytes) of an image's layers."""
        return [(d, self._records.layer_size(d)) for d in self.find(id).layers]

    # adding

    def import_(
        self, tar: Upload, *, repo: str, tag: str, message: str, changes: Sequence[str]
    ) -> str:
        name = parse(f"{repo}:{tag}" if tag else repo) if repo else None
        created = rfc3339()
        rootfs: dict[str, Any] = {"type": "layers", "diff_ids": []}
        document = {
            "architecture": _architecture(),
            "os": "linux",
            "created": created,
            "config": dockerfile_changes.apply({}, changes),
            "rootfs": rootfs,
            "history": [{"created": created, "comment": message or "Imported from -"}],
        }
        config.check_writable(document)
        with self._receiving():
            with self.blobs.writer() as blob:
                # One pass over the upload: unpacked as a layer and stored as a blob.
                rootfs["diff_ids"] = [self.layers.add(_Tee(tar, blob))]
                digest = blob.commit()
            tar.check()  # the client may have disconnected since the last read
            return self.add(document, [digest], [name] if name else [])

    def add(
        self, document: dict[str, Any] | bytes, layers: Sequence[str], names: Sequence[Reference]
    ) -> str:
        """Add an image whose layers are in the store, as blobs and unpacked; its id.

        `document` bytes are stored unchanged, since their digest is the image's id.
        """
        # Blobs first, the row last: a row never refers to a missing blob, and blobs without a row
        # are swept.
        raw = document if isinstance(document, bytes) else encoded(document)
        id = self.blobs.put(raw)
        self._records.admit(id, raw)
        manifest = self.blobs.put_json({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": id, "size": self.blobs.size(id)},
            "layers": [
                {"mediaType": _layer_type(self.blobs, d), "digest": d, "size": self.blobs.size(d)}
                for d in layers
            ],
        })  # fmt: skip
        with self._lock:
            try:
                self._tag_store.add(id, manifest, names)
            except BaseException:
                if not self._tag_store.has(id):
                    self._records.forget(id)
                raise
        return id

    def tag(self, ref: str, repo: str, tag: str) -> None:
        image = self.find(ref)
        name = parse(f"{repo}:{tag}" if tag else repo)
        with self._lock:
            self._tag_store.name(name, image.id)

    def load(self, tar: Upload) -> Iterator[str]:
        with self._receiving():
            yield from loading.load(self, tar)

    def save(self, refs: Sequence[str]) -> Iterator[bytes]:
        """Archive each image once, with the requested names: none for an id, all tags for a
        repository's name."""
        chosen: dict[str, list[str]] = {}
        for ref in refs:
            found = self._tag_store.tags_of(ref)
            for id, name in found or [(self.find(ref).id, "")]:
                names = chosen.setdefault(id, [])
                if name and name not in names:
                    names.append(name)
        return archive.save(self, [(self.find(id), names) for id, names in chosen.items()])

    def manifest(self, id: str) -> tuple[str, dict[str, Any]]:
        """(digest, document) of an image's manifest."""
        return self._records.manifest(id)

    # removing

    def remove(self, ref: str, *, force: bool, prune: bool) -> list[dict[str, str]]:
        with self._lock:
            image = self.find(ref)
            by_id = image.id.removeprefix("sha256:").startswith(ref.removeprefix("sha256:"))
            named = not by_id or ref in image.tags
            users = self._users(image.id)
            if named and len(image.tags) > 1:
                return [self._untag(parse(ref).name)]  # other names remain: the image stays
            running = [u for u in users if u.alive]
            short = image.id.removeprefix("sha256:")[:12]
            if named and image.tags:
                if users and not force:
                    raise Conflict(
                        f"conflict: unable to remove repository reference {ref!r} (must force) - "
                        f"container {users[0].id[:12]} is using its referenced image {short}"
                        .replace("'", '"')
                    )  # fmt: skip
                if users:  # forced: the image stays for its containers, without a name
                    return [self._untag(parse(ref).name)]
            else:
                self._refuse(image, running, users, force=force)
            if not users:
                return self._delete(image)
            self._tag_store.untag(*image.tags)  # the row stays: containers need its layers
            return [{"Untagged": name} for name in image.tags]

    def _refuse(
        self,
        image: Image,
        running: Sequence[object],
        users: Sequence[ImageUser],
        *,
        force: bool,
    ) -> None:
        short = image.id.removeprefix("sha256:")[:12]
        if running:
            raise Conflict(
                f"conflict: unable to delete {short} (cannot be forced) - image is being used by "
                f"running container {users[0].id[:12]}"
            )
        if users and not force:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is being used by "
                f"stopped container {users[0].id[:12]}"
            )
        if len({t.rpartition(":")[0] for t in image.tags}) > 1 and not force:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is referenced in "
                "multiple repositories"
            )

    def _untag(self, name: str) -> dict[str, str]:
        self._tag_store.untag(name)
        return {"Untagged": name}

    def _delete(self, image: Image) -> list[dict[str, str]]:
        """Delete an image that no container uses, with all its names, atomically."""
        self._tag_store.remove(image.id)
        self._records.forget(image.id)
        gone = self._sweep()
        untagged = [{"Untagged": name} for name in image.tags]
        return [*untagged, {"Deleted": image.id}, *({"Deleted": d} for d in gone)]

    def prune(self, filters: Filters) -> PrunedImages:
        pruning = PruneFilter(filters, {"dangling"})
        # As Docker: only images without a name, unless dangling=false.
        dangling = list(filters.get("dangling", ["true"]))[-1:] not in (["false"], ["0"])
        out: list[dict[str, str]] = []
        freed = 0
        with self._lock:
            for image in self.all():
                if (dangling and image.tags) or self._users(image.id):
                    continue
                if not pruning.matches(image.created, image.config.labels):
                    continue
                out += self._delete(image)
                freed += image.size
        return PrunedImages(out, freed)

    # garbage collection

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        with self._lock:
            self._incoming += 1
        try:
            yield
        finally:
            with self._lock:
                self._incoming -= 1
                self._sweep()

    def _sweep(self) -> list[str]:
        """Remove layers, blobs and partial downloads that no image refers to; their diff ids.

        What cannot be removed is reported, and tried again by the next sweep.
        """
        gone: list[str] = []
        with self._lock:
            if not self._incoming:
                threads.attempt("removing unreferenced layers and blobs", lambda: self._reap(gone))
        return gone

    def _reap(self, gone: list[str]) -> None:
        for place in (self.layers, self.blobs):
            threads.attempt("removing partially received files", place.tidy)
        blobs: set[str] = set()
        layers: set[str] = set()
        for id in self._tag_store.ids():
            try:
                layers |= set(self.layers_of(id))
                manifest, listed = self.manifest(id)
            except NotFound as error:  # its references are unknown: remove nothing
                self._records.damaged(id, error)
                return
            blobs |= {id, manifest, *(entry["digest"] for entry in listed["layers"])}
        for diff_id in sorted(self.layers.all() - layers):
            if threads.attempt(f"removing layer {diff_id}", partial(self.layers.remove, diff_id)):
                gone.append(diff_id)
        for digest in self.blobs.all() - blobs:
            threads.attempt(f"removing blob {digest}", partial(self.blobs.remove, digest))


class _Tee:
    """Reads from a source, and copies what was read to a blob."""

    def __init__(self, source: Source, copy: BlobWriter) -> None:
        self._source, self._copy = source, copy

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._copy.write(data)
        return data


def _layer_type(blobs: Blobs, digest: str) -> str:
    with open(blobs.path(digest), "rb") as file:
        head = file.read(4)
    if head[:2] == b"\x1f\x8b":
        return f"{LAYER}+gzip"
    return f"{LAYER}+zstd" if head == b"\x28\xb5\x2f\xfd" else LAYER


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
