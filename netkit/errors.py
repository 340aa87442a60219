"""Errors, with the HTTP status of each.

    NetkitError                status   whose fault
      InvalidSpec              400      the caller's: an option, a name, a combination
      Forbidden                403      the caller's: not allowed to anyone
      NotFound                 404      the caller's, or a race
      Conflict                 409      someone else wants it, or its state forbids it
        AlreadyExists          409
        InUse                  409
        Foreign                409
      NotSupported             501      ours: known, and not there yet
      NoRoom                   507      the caller's: all of a kind together are at their bound
      KernelError              500      the host's: `done` leading steps had taken effect
        BadSetting             400      the caller's: no such kernel setting, or a bad value
        Unreachable            500      the host's: a service does not answer
      StoreError               500      the host's: the database cannot be read or written
      NotConverged             500      ours, or a rival's on this host

A message has what, which and why, and where it helps what to do, in one line.
`status` is the HTTP status of the Docker Engine API, so that no front end has an `if`.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class NetkitError(Exception):
    status: ClassVar[int] = 500


class InvalidSpec(NetkitError):
    status = 400


class Forbidden(NetkitError):
    status = 403


class NotFound(NetkitError):
    status = 404


class Conflict(NetkitError):
    status = 409


class AlreadyExists(Conflict):
    pass


class InUse(Conflict):
    pass


class Foreign(Conflict):
    """Another tool's resource is in the place of ours: `found` names it and its owner."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}: remove it, or choose another name")
        self.found = found


class NotSupported(NetkitError):
    status = 501


class Busy(NetkitError):
    """Refused because another operation is in progress: a retry may succeed."""

    status = 503


class NoRoom(NetkitError):
    """RFC 4918 section 11.5: the store has no room for one more."""

    status = 507


class KernelError(NetkitError):
    """A step on the host failed; `done` counts the steps before it, which took effect.

    `nothing_applied`: it could not even be looked at, so nothing was begun.  `unsure`: of the steps
    after those that were done some may have taken effect as well.
    """

    def __init__(
        self, message: str, *, errno: int | None = None, done: int = 0, unsure: bool = False
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.done = done
        self.nothing_applied = False
        self.unsure = unsure


class BadSetting(KernelError):
    """The kernel has no setting that a user asked for, or does not take its value."""

    status = 400


class Unreachable(KernelError):
    """The service that keeps resources of these `kinds` does not answer.

    `kinds` are first words of keys, none where it is no things that are kept.  What is marked
    ours there can go when they are back.
    """

    def __init__(self, message: str, kinds: frozenset[str]) -> None:
        super().__init__(message)
        self.kinds = kinds


class StoreError(NetkitError):
    """The database cannot be read or written: the disk is full, a file cannot be opened."""


class NotConverged(NetkitError):
    """Every step succeeded, yet the host is not in the desired state."""


def unexpected(error: BaseException) -> KernelError:
    """Wrap an exception that is no NetkitError, as its cause.

    Everything that undoes, retries or reports then treats it as any other failure.
    """
    number = error.errno if isinstance(error, OSError) else None
    made = KernelError(f"unexpected {type(error).__name__}: {error}", errno=number, unsure=True)
    made.__cause__ = error
    return made


# Faults of a disk, not of a request: it is full, over a quota, broken, or read-only.
_DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS))


def disk_fault(error: BaseException) -> KernelError | None:
    """The error to show for an OSError that is a fault of the disk; None for another exception."""
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return None
    where = f"{error.filename}: " if error.filename else ""
    made = KernelError(f"{where}{(error.strerror or 'disk error').lower()}", errno=error.errno)
    made.__cause__ = error
    return made


def nothing_applied(error: BaseException) -> bool:
    """Whether it was raised before anything was begun on the host."""
    return isinstance(error, KernelError) and error.nothing_applied
