"""Remove layers, blobs and partial files that no image refers to."""

from __future__ import annotations

from functools import partial

from netkit import threads
from netkit.errors import NotFound
from runtime.images.blobs import Blobs
from runtime.images.layers import Layers
from runtime.images.records import Records
from runtime.images.removal import Users
from runtime.images.tags import TagStore


class Sweep:
    """Callers hold the store's lock, and nothing is being added."""

    def __init__(
        self, tag_store: TagStore, records: Records, blobs: Blobs, layers: Layers, users: Users
    ) -> None:
        self._tags, self._records, self._users = tag_store, records, users
        self._blobs, self._layers = blobs, layers

    def __call__(self) -> None:
        """What cannot be removed is reported, and tried again by the next sweep."""
        threads.attempt("removing unreferenced layers and blobs", self._reap)

    def _reap(self) -> None:
        for place in (self._layers, self._blobs):
            threads.attempt("removing partially received files", place.tidy)
        for id in self._tags.deleted_ids():
            if not self._users(id):
                self._tags.remove(id)
                self._records.forget(id)
        blobs: set[str] = set()
        layers: set[str] = set()
        for id in (*self._tags.ids(), *self._tags.deleted_ids()):
            try:
                layers |= set(self._records.layers(id))
                listed = self._records.layer_blobs(id)
                manifest = self._tags.manifest(id)
            except NotFound as error:  # its references are unknown: remove nothing
                self._records.damaged(id, error)
                return
            blobs |= {id, manifest, *listed}
        spare_layers, spare_blobs = self._layers.all() - layers, self._blobs.all() - blobs
        if spare_layers or spare_blobs:
            self._tags.flush()  # else a power cut might bring back rows without their files
        for diff_id in sorted(spare_layers):
            what = f"removing layer {diff_id}"
            threads.attempt(what, partial(self._layers.remove, diff_id))
        for digest in spare_blobs:
            threads.attempt(f"removing blob {digest}", partial(self._blobs.remove, digest))
