"""Undo the steps of a failed operation, newest first; run two steps concurrently."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from netkit import threads


class Undo:
    """`with Undo() as undo: act(); undo.push(take_back, ...); ...; undo.commit()`.

    An exception runs what was pushed, and is re-raised; an undo that fails is reported and added as
    a note.  An ExitStack would raise the undo's error instead of the cause.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def push(self, step: Callable[..., object], *args: object) -> None:
        self._steps.append((step, args))

    def commit(self) -> None:
        self._steps.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._steps.clear()
            return
        while self._steps:
            step, args = self._steps.pop()
            try:
                step(*args)
            except Exception as bad:  # noqa: BLE001  the other undos must run
                what = f"undoing by {getattr(step, '__qualname__', step)}"
                threads.report(what, bad)
                error.add_note(f"{what} failed: {bad}")


def run_parallel(one: Callable[[], object], other: Callable[[], object]) -> None:
    """Run two calls concurrently until both have ended; raises the first error with the other."""
    failed: list[BaseException] = []

    def aside() -> None:
        try:
            other()
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=aside, name=f"{threading.current_thread().name}-aside")
    thread.start()
    try:
        one()
    except BaseException as error:
        thread.join()
        for bad in failed:
            error.add_note(f"and at the same time: {bad}")
        raise
    thread.join()
    for bad in failed:
        raise bad
