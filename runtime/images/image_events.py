"""Emit Docker's events of images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from netkit import threads
from netkit.errors import NotFound
from runtime.images.records import Records

Emit = Callable[[str, str, Mapping[str, str]], None]  # action, id of an image, attributes


class ImageEvents:
    """What was done stays done if its event fails.  `emit` is set by the composition root."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.emit: Emit = lambda *_: None

    def happened(self, action: str, id: str, name: str = "") -> None:
        """Emit an event of an image, with its labels if it is still there."""

        def send() -> None:
            labels: Mapping[str, str] = {}
            with suppress(NotFound):
                labels = self._records.image(id).config.labels or {}
            self.emit(action, id, {**labels, "name": name or id})

        threads.attempt(f"event {action} of an image", send)

    def removed(
        self, lines: Sequence[Mapping[str, str]], known: Collection[str], id: str = ""
    ) -> None:
        """Emit what `lines` say, which also have ids of layers: `known` are those of images.

        Names come before their image, or are of the image `id`.
        """
        pairs = []
        for line in reversed(lines):
            if line.get("Deleted") in known:
                id = line["Deleted"]
                pairs.append(("delete", id))
            elif "Untagged" in line:
                pairs.append(("untag", id))
        for action, gone in reversed(pairs):
            self.happened(action, gone)

    def pruned(self, freed: int) -> None:
        threads.attempt("event prune", lambda: self.emit("prune", "", {"reclaimed": str(freed)}))
