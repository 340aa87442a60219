"""Errors of containers, in Docker's words: clients and people know them by heart."""

from __future__ import annotations

from netkit.errors import Conflict, NetkitError


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


class Paused(Conflict):
    def __init__(self, id: str) -> None:
        super().__init__(f"container {id} is paused, unpause the container first")


class StartFailed(NetkitError):
    """The runtime would not start it: the client makes exit status 125, 126 or 127 of the text.

    400 for what the user named wrongly (not found, no permission), else 500.
    """

    status = 500

    def __init__(self, message: str, exit_code: int = 128) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BadCommand(StartFailed):
    status = 400
