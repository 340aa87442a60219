"""Errors of containers, with Docker's messages, which clients match."""

from __future__ import annotations

from netkit.errors import Conflict


class NameTaken(Conflict):
    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container '
            f'"{holder}". You have to remove (or rename) that container to be able to reuse '
            "that name."
        )


class NotRunning(Conflict):
    def __init__(self, id: str) -> None:
        super().__init__(f"container {id} is not running")


class BeingRemoved(Conflict):
    """`what` cannot be done with its files: a removal has begun, or has failed half-way."""

    def __init__(self, id: str, what: str, status: str) -> None:
        how = "Dead" if status == "dead" else "being removed"
        super().__init__(f"You cannot {what} container {id} which is {how}")


class Paused(Conflict):
    def __init__(self, id: str) -> None:
        super().__init__(f"container {id} is paused, unpause the container first")
