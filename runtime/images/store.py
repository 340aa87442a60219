"""Implements ports.Images: add, tag, save and remove images; sweep unreferenced content."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from netkit.errors import InvalidSpec, KernelError, NotFound
from netkit.store import Database
from netkit.timestamps import epoch_ns
from runtime.apitypes import Upload
from runtime.cancellation import Check, unchecked
from runtime.filetree.sync import sync_filesystem
from runtime.filters import Filters, PrunedImages
from runtime.images import archive, config, image_manifest, loading, oci_archive, uppers
from runtime.images.blobs import Blobs, encoded
from runtime.images.config import history
from runtime.images.garbage import Garbage
from runtime.images.holds import Hold, Holds
from runtime.images.image_events import ImageEvents
from runtime.images.importing import ImportRequest, import_image
from runtime.images.layers import Layers, StoredLayer
from runtime.images.model import Image
from runtime.images.records import Records
from runtime.images.reference import Reference, parse
from runtime.images.registry_names import RegistryNames
from runtime.images.removal import ImageUser, Removal, Users
from runtime.images.saved import SavedImage
from runtime.images.sweep import Sweep
from runtime.images.tags import TagStore

log = logging.getLogger("netkit.images")


class ImageStore:
    """Thread-safe.  Changes to names and images take one lock, reads take none."""

    def __init__(self, root: Path, database: Database, users: Users, boot: str = "") -> None:
        """`boot`: id of the host's boot: images that another left unsynced are removed."""
        self._root, self._boot = root, boot
        self.blobs = Blobs(root)
        self.layers = Layers(root / "layers")
        self._tag_store = TagStore(database)
        self._lock = threading.RLock()
        self.registry_names = RegistryNames(self.add, self._tag_store, self._lock)
        self._records = Records(self._tag_store, self.blobs, self.layers)
        holds = Holds(self._tag_store, users)
        self._removal = Removal(self._tag_store, self._records, holds.users)
        sweep = Sweep(self._tag_store, self._records, self.blobs, self.layers, holds)
        self._garbage = Garbage(self._lock, holds, sweep)
        if lost := self._tag_store.drop_lost(boot):
            log.warning("%d steps of builds were not on the disk when the host went down", lost)
        self.events = ImageEvents(self._records)
        self._garbage.sweep()

    # looking

    def find(self, ref: str) -> Image:
        return self._records.image(self._tag_store.find(ref))

    def all(self) -> list[Image]:
        images = [self._records.image(id) for id in self._tag_store.ids()]
        return sorted(images, key=lambda i: epoch_ns(i.created), reverse=True)

    def count(self) -> int:
        """Of `all`, which reads each image's configuration."""
        return self._tag_store.count()

    def shared_sizes(self, images: Sequence[Image]) -> dict[str, int]:
        return self._records.shared_sizes(images)

    def history(self, ref: str) -> list[dict[str, Any]]:
        """History of an image in the format of the API, newest first."""
        image = self.find(ref)
        sizes = [self._records.layer_size(d) for d in image.layers]
        return history(image, sizes, self._above(image))

    def _above(self, image: Image) -> Iterator[Image]:
        """The images that it was made from, the next one first."""
        with suppress(NotFound):  # removed meanwhile
            while image.parent:
                image = self._records.image(image.parent)
                yield image

    def layers_of(self, id: str) -> tuple[str, ...]:
        """Diff ids of an image's layers, lowest first; also of one deleted with force."""
        return self._records.layers(id)

    def document(self, id: str) -> dict[str, Any]:
        """The configuration document of an image; also of one deleted with force."""
        return self._records.document(id)[0]

    def named(self, name: Reference) -> str:
        """Id of the image that has the name; "" if none has."""
        return self._tag_store.named(name) or ""

    def parent(self, id: str) -> str:
        """Id of the image that this one was made from here, by a build or commit; "" if none."""
        return self._tag_store.parent(id)

    def children(self, id: str) -> list[str]:
        return self._tag_store.children(id)

    def layer_sizes(self, id: str) -> list[tuple[str, int]]:
        """(diff id, unpacked bytes) of an image's layers."""
        return [(d, self._records.layer_size(d)) for d in self.find(id).layers]

    # adding

    def import_(self, tar: Upload, request: ImportRequest) -> str:
        id = import_image(self, tar, request)
        if image := self._records.image(id).tags:
            self.events.happened("tag", id, image[0])
        self.events.happened("import", id)
        return id

    def add(
        self,
        document: dict[str, Any] | bytes,
        layers: Sequence[str],
        names: Sequence[Reference],
        parent: str = "",
        *,
        durable: bool = True,
        also: Callable[[str], None] = lambda id: None,
    ) -> str:
        """Add an image whose layers are in the store, as blobs and unpacked; its id.

        `document` bytes are stored unchanged, since their digest is the image's id.  `parent`: id
        of the image that it was made from.  Unless `durable`, a power cut before `sync` takes the
        image back, and it cannot have names yet.  `also` gets the id in the same transaction.
        """
        assert durable or not names
        # Blobs first, the row last: a row never refers to a missing blob, and blobs without a row
        # are swept.
        raw = document if isinstance(document, bytes) else encoded(document)
        id = self.blobs.put(raw)
        self._records.admit(id, raw, parent)
        manifest = self.blobs.put_json(image_manifest.render(self.blobs, id, layers))
        if durable:
            self._sync_all()
        with self._lock:
            try:
                with self._tag_store.atomically():
                    self._tag_store.add(id, manifest, names, parent, "" if durable else self._boot)
                    also(id)
            except BaseException:
                if not self._tag_store.has(id):
                    self._records.forget(id)
                raise
        if durable:
            self._tag_store.flush()
        return id

    def sync(self) -> None:
        """Bring images that are not durable yet to the disk, if there are any: KernelError.

        Without any there is nothing to wait for, and others may have written much.
        """
        if self._tag_store.unsynced():
            self._sync_all()

    def _sync_all(self) -> None:
        """Files first, one call for all of them; then the rows that refer to them."""
        unsynced = self._tag_store.unsynced()
        try:
            sync_filesystem(self._root)
        except OSError as error:
            raise KernelError(
                f"cannot write images to the disk: {error.strerror}", errno=error.errno
            ) from error
        if unsynced:
            self._tag_store.synced(unsynced)
            self._tag_store.flush()

    def add_child(
        self,
        document: dict[str, Any],
        parent: str,
        layer: StoredLayer | None,
        names: Sequence[Reference] = (),
        *,
        durable: bool = True,
        also: Callable[[str], None] = lambda id: None,
    ) -> str:
        """Add an image made from `parent` ("": from nothing) with one layer more, or none; its id.

        `document` as `child.document` makes it; `durable` and `also`: see `add`.
        """
        config.check_writable(document)
        below = self._records.layer_blobs(parent) if parent else ()
        above = (layer.digest,) if layer else ()
        return self.add(document, [*below, *above], names, parent, durable=durable, also=also)

    def adopt(self, upper: Path, check: Check = unchecked) -> StoredLayer | None:
        """Move an overlayfs upper directory, not mounted any more, into the store as a layer.

        None, and the directory stays, if there is nothing in it.  Callers are `holding`.  `check`
        is called now and then, and may raise to end it.
        """
        return uppers.adopt(self.blobs, self.layers, upper, check)

    def capture(
        self, upper: Path, leave_out: Collection[str] = (), check: Check = unchecked
    ) -> StoredLayer | None:
        """Copy an overlayfs upper directory, also a running container's, as a layer.

        `leave_out`: see layer_pack.  Callers are `holding`.  `check`: see adopt.
        """
        return uppers.capture(self.blobs, self.layers, upper, leave_out, check)

    def tag(self, ref: str, repo: str, tag: str) -> None:
        image = self.find(ref)
        name = parse(f"{repo}:{tag}" if tag else repo)
        if image.id in self._tag_store.unsynced():
            self.sync()
        with self._lock:
            self._tag_store.find(image.id)  # NotFound: removed meanwhile
            self._tag_store.name(name, image.id)
        self._tag_store.flush()
        self.events.happened("tag", image.id, name.name)

    def load(self, tar: Upload) -> Iterator[str]:
        with self.holding():
            yield from loading.load(self, tar)

    def save(self, refs: Sequence[str], layout: str = "docker") -> Iterator[bytes]:
        """Archive each image once, with the requested names: none for an id, all tags for a
        repository's name.  From its first bytes on it is whole, though they be removed meanwhile.

        `layout`: that of Docker, or "oci" for OCI's, which has Docker's manifest.json as well.
        """
        if layout not in {"docker", "oci"}:
            raise InvalidSpec(f"invalid format {layout[:60]!r}: use docker or oci")
        self._tag_store.chosen(refs)  # NotFound before the first byte is asked for
        return self._saved(refs, archive.save if layout == "docker" else oci_archive.save)

    def _saved(
        self,
        refs: Sequence[str],
        write: Callable[[ImageStore, Sequence[SavedImage]], Iterator[bytes]],
    ) -> Iterator[bytes]:
        # All of it here, by a generator: one that is never begun holds nothing.
        with ExitStack() as reading:
            with self._lock:  # nothing is removed between rows and hold
                chosen = self._tag_store.chosen(refs)
                images = [self._records.saved(id, names) for id, names in chosen.items()]
                contents = set[str]().union(*(each.contents() for each in images))
                reading.enter_context(self._garbage.reading(contents))
            for each in images:
                self.events.happened("save", each.image.id)
            yield from write(self, images)

    def set_parent(self, id: str, parent: str) -> None:
        with self._lock:
            self._tag_store.set_parent(id, parent)

    def manifest(self, id: str) -> tuple[str, dict[str, Any]]:
        """(digest, document) of an image's manifest."""
        return self._records.manifest(id)

    # removing

    def remove(self, ref: str, *, force: bool, prune: bool) -> list[dict[str, str]]:
        with self._lock:
            id, known = self._tag_store.find(ref), set(self._tag_store.ids())
            lines = self._removal.remove(ref, force=force, prune=prune)
            self._tag_store.flush()
            self._garbage.sweep()
        self.events.removed(lines, known, id)
        return lines

    def prune(self, filters: Filters) -> PrunedImages:
        with self._lock:
            known = self._tag_store.ids()
            before = self._records.bytes_of(known)
            lines = self._removal.prune(filters)
            freed = before - self._records.bytes_of(self._tag_store.ids())
            self._tag_store.flush()
            self._garbage.sweep()
        self.events.removed(lines, set(known))
        self.events.pruned(freed)
        return PrunedImages(lines, freed)

    # garbage collection

    def holding(self, *, leaves: bool = True) -> AbstractContextManager[None]:
        """Nothing that no image refers to is removed meanwhile: see `Garbage.holding`."""
        return self._garbage.holding(leaves=leaves)

    @contextmanager
    def reading(self, id: str) -> Iterator[None]:
        """The layers of an image, also of one deleted with force, stay meanwhile.  NotFound."""
        with self._garbage.reading(self._records.layers(id)):
            self._tag_store.manifest(id)  # NotFound; after the hold, see Sweep
            yield

    def using(self, user: ImageUser) -> AbstractContextManager[Hold]:
        """An operation that uses images, as a container does: see `Garbage.using`."""
        return self._garbage.using(user)
