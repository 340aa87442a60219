"""What the stages of one build have come to; a stage may wait for an earlier one."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from runtime.build.errors import BuildFailed
from runtime.cancellation import LOOK, Cancel, Cancelled
from runtime.dockerfile.gotext import integer


class StageResults:
    """Images of stages by number and name.  Thread-safe."""

    def __init__(self, names: Sequence[str], cancel: Cancel) -> None:
        self._first: dict[str, int] = {}  # stage of each name
        for index, name in enumerate(names):
            self._first.setdefault(name, index)
        self._cancel = cancel
        self._images: list[str | None] = [None] * len(names)
        self._done = [False] * len(names)
        self._claimed: dict[str, int] = {}  # stage that makes the image of a step, by its key
        self._changed = threading.Condition()

    def finish(self, index: int, image: str | None) -> None:
        with self._changed:
            self._images[index], self._done[index] = image, True
            self._changed.notify_all()

    def fail(self, index: int) -> None:
        """Stages that wait for it are Cancelled."""
        self.finish(index, None)

    def named(self, name: str, before: int) -> str | None:
        """Image of the stage with this name, in any case, before stage number `before`."""
        index = self._first.get(name.lower(), before) if name else before
        return self._image(index) if index < before else None

    def taken(self, name: str, before: int) -> bool:
        """Has an earlier stage this name?"""
        return bool(name) and self._first.get(name, before) < before

    def get(self, name: str, before: int) -> str | None:
        """As `named`, or by number.  BuildFailed for a number of no earlier stage."""
        if (found := self.named(name, before)) is not None:
            return found
        try:
            index = integer(name, 64)
        except ValueError:
            return None
        if index == before:
            raise BuildFailed("refers to current build stage")
        if not 0 <= index < before:
            raise BuildFailed("index out of bounds")
        return self._image(index)

    def wait(self, index: int) -> None:
        self._image(index)

    def _image(self, index: int) -> str:
        with self._changed:
            while not self._done[index]:
                self._cancel.check()
                self._changed.wait(LOOK)
            image = self._images[index]
        if image is None:
            raise Cancelled(f"stage {index} failed")
        return image

    # steps that several stages have in common are made once

    def claim(self, key: str, index: int) -> bool:
        """Shall this stage make the image of a step?  False after an earlier one has.

        It does not wait for a later stage, whose output may wait for this one to end.
        """
        with self._changed:
            if self._claimed.get(key, index) >= index:
                self._claimed[key] = index
                return True
            while self._claimed.get(key, index) < index:
                self._cancel.check()
                self._changed.wait(LOOK)
            return False

    def release(self, key: str, index: int) -> None:
        with self._changed:
            if self._claimed.get(key) == index:
                del self._claimed[key]
                self._changed.notify_all()
