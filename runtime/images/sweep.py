"""Remove layers, blobs and partial files that no image refers to."""

from __future__ import annotations

from functools import partial

from netkit import threads
from netkit.errors import NotFound
from runtime.images.blobs import Blobs
from runtime.images.holds import Holds
from runtime.images.layers import Layers
from runtime.images.records import Records
from runtime.images.tags import TagStore


class Sweep:
    """Callers hold the store's lock, and nothing is being added."""

    def __init__(
        self, tag_store: TagStore, records: Records, blobs: Blobs, layers: Layers, holds: Holds
    ) -> None:
        self._tags, self._records, self._holds = tag_store, records, holds
        self._blobs, self._layers = blobs, layers

    def __call__(self) -> None:
        """What cannot be removed is reported, and tried again by the next sweep."""
        threads.attempt("removing unreferenced layers and blobs", self._reap)

    def _reap(self) -> None:
        for place in (self._layers, self._blobs):
            threads.attempt("removing partially received files", place.tidy)
        for id in self._tags.deleted_ids():
            with self._tags.atomically():
                used = bool(self._holds.users(id))
                if not used:
                    self._tags.remove(id)
            if not used:
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
        # After the rows: what is being read had a row when that began, or is held.
        held = self._holds.contents()
        spare_layers = self._layers.all() - layers - held
        spare_blobs = self._blobs.all() - blobs - held
        if spare_layers or spare_blobs:
            self._tags.flush()  # else a power cut might bring back rows without their files
        for diff_id in sorted(spare_layers):
            what = f"removing layer {diff_id}"
            threads.attempt(what, partial(self._layers.remove, diff_id))
        for digest in spare_blobs:
            threads.attempt(f"removing blob {digest}", partial(self._blobs.remove, digest))
