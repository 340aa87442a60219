"""Errors that end a command: one line for the user, and an exit code."""

from __future__ import annotations

ENGINE_ERROR = 125  # of `run`: the engine failed, not the program; docker's flag errors, too
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class Failure(Exception):
    """Printed as one line on standard error; the process ends with `code`."""

    code = 1

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class Misuse(Failure):
    """The command line itself is wrong; `code` is 1 for names and counts, 125 for flags."""


class Refused(Failure):
    """The daemon answered with an error; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Error response from daemon: {message}")
        self.status = status
        self.reason = message


class Unreachable(Failure):
    """No daemon answers at the address."""


class Exit(Exception):
    """End the process with `code` and print nothing."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
