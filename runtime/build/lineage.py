"""The images of one stage, each made from the one before: looked up in the cache, or added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from netkit.errors import NotFound
from netkit.timestamps import rfc3339
from runtime.build.cache import StepCache, step_key
from runtime.build.cache_from import NamedCaches, restored
from runtime.build.output import Section
from runtime.build.results import StageResults
from runtime.dockerfile.effects import StageState
from runtime.images import child
from runtime.images.config import architecture
from runtime.images.holds import Hold
from runtime.images.layers import StoredLayer
from runtime.images.model import Image
from runtime.images.store import ImageStore


class Lineage:
    """`image` is the id of the latest one, "" before the first of a stage from scratch."""

    def __init__(
        self,
        images: ImageStore,
        cache: StepCache,
        named: NamedCaches | None,
        results: StageResults,
        index: int,
        hold: Hold,
        *,
        looks_up: bool,
    ) -> None:
        """`hold`: of the build; what the stage comes to is not removed while that runs.

        `looks_up`: False to do every step anew (`--no-cache`); what it makes is remembered.
        """
        self._images, self._cache, self._named = images, cache, named
        self._results, self._index, self._hold = results, index, hold
        self.image = ""
        self._looks_up = looks_up
        self._below: Mapping[str, Any] = {"architecture": architecture(), "os": "linux"}
        self._key = ""
        self._claimed = ""

    def begin(self, base: Image) -> None:
        """NotFound if it has been removed meanwhile."""
        self._hold.keep(base.id)
        self.image, self._below = base.id, base.document

    def reuse(self, command: Sequence[str], state: StageState, section: Section) -> bool:
        """Go on with the image that this step made before, if there is one.

        If not, the step is to be done, and then `add`ed.
        """
        self._key = step_key(self.image, command, state.config, state.author)
        if not self._looks_up:
            return False
        found = self._found(command, state)
        if not found and not self._results.claim(self._key, self._index):
            found = self._found(command, state)  # another stage has made it meanwhile
        elif not found:
            self._claimed = self._key
        if not found:
            return False
        section.text(" ---> Using cache\n")
        self.image = found
        self._below = self._images.find(found).document
        return True

    def _found(self, command: Sequence[str], state: StageState) -> str:
        found = self._kept(self._cache.find(self._key, self.image))
        if self._named is None or (found and self._named.above(found)):
            return found
        match = self._named.match(self._below, command)
        if match is None:
            return ""
        image, steps = match
        digests = [entry["digest"] for entry in self._images.manifest(image.id)[1]["layers"]]
        if steps == len(image.document.get("history") or ()):
            raw = self._images.blobs.get(image.id)
            # It has a parent from now on.
            return self._images.add(raw, digests, (), self.image, also=self._hold.keep)
        document, layers = restored(image, steps, self._config(state), state.author)
        return self._images.add(document, digests[:layers], (), self.image, also=self._hold.keep)

    def _kept(self, image: str) -> str:
        """The image; "" if it has been removed meanwhile."""
        with suppress(NotFound):
            if image:
                self._hold.keep(image)
            return image
        return ""

    def add(
        self, command: Sequence[str], state: StageState, layer: StoredLayer | None, container: str
    ) -> None:
        """Add the image of the step that `reuse` did not find.  InvalidSpec if that is too deep."""
        document = child.document(
            self._below,
            config=self._config(state),
            diff_id=layer.diff_id if layer else "",
            created=rfc3339(),
            created_by=" ".join(command),
            author=state.author,
            container=container,
        )
        # Synced with the whole build: a power cut may take steps back, and they are made again.
        self.image = self._images.add_child(
            document, self.image, layer, durable=False, also=self._hold.keep
        )
        self._below = document
        self._cache.add(self._key, self.image)

    def settle(self) -> None:
        """The step is over, done or failed: stages that wait for it go on."""
        if self._claimed:
            self._results.release(self._claimed, self._index)
            self._claimed = ""

    def _config(self, state: StageState) -> dict[str, Any]:
        said = {name: value for name, value in state.config.items() if value is not None}
        return {**said, "Image": self.image} if self.image else said
