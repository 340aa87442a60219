"""Errors of builds, in Docker's words."""

from __future__ import annotations

import os
from collections.abc import Sequence

from netkit.errors import NetkitError


class BuildFailed(NetkitError):
    """A build cannot go on, in Docker's words.

    Before the first step it is the request's answer, with status 500 as in dockerd; in a step it
    is the stream's last line.
    """


class CommandFailed(BuildFailed):
    """The command of a RUN ended with `code`."""

    def __init__(self, command: Sequence[str], code: int) -> None:
        said = " ".join(command)
        super().__init__(f"The command '{said}' returned a non-zero code: {code}")
        self.code = code


class BadArchive(BuildFailed):
    """The bytes are no archive, or not all of one."""


# What dockerd puts before errors of the process of its own that unpacks
UNPACKING = "Error processing tar file(exit status 1): "


def reason(error: OSError) -> str:
    """What Go says of a failed system call: as strerror(3), in lower case."""
    text = os.strerror(error.errno) if error.errno else str(error)
    return text[:1].lower() + text[1:]


def failed(operation: str, path: str, error: OSError) -> Exception:
    """The error for a system call on a path inside an image or a context.

    `error` itself if the client has disconnected.
    """
    if isinstance(error, ConnectionError):
        return error
    what = f"{operation} {path}: ".lstrip() if path else operation
    return BuildFailed(f"{what}{reason(error)}")
