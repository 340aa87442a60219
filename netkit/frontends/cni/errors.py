"""Errors as the CNI specification has them, section 5 "Error".  Pure."""

from __future__ import annotations

import msgspec

from netkit.errors import (
    Busy,
    Conflict,
    Forbidden,
    InvalidSpec,
    NetkitError,
    NoRoom,
    NotFound,
    NotSupported,
    Unreachable,
)

INCOMPATIBLE = 1  # version
UNSUPPORTED = 2  # a key of the configuration: the message has it and its value
UNKNOWN_CONTAINER = 3
ENVIRONMENT = 4
IO = 5
UNDECODABLE = 6
CONFIGURATION = 7
OWN_NAMESPACE = 8  # not in the specification: libcni's plugins have it
AGAIN = 11
UNAVAILABLE = 50
TAKEN = 100  # from here on a plugin's own: something exists already, or is in use
DEVIATION = 101  # CHECK: the host is not as ADD left it
INTERNAL = 999


class CniError(Exception):
    """`details` may have several lines; `message` has one."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details

    def rendered(self, version: str) -> bytes:
        """As JSON, one line."""
        shown = {"cniVersion": version, "code": self.code, "msg": self.message}
        return msgspec.json.encode(shown | ({"details": self.details} if self.details else {}))


def as_cni(error: NetkitError) -> CniError:
    """The error of a use case, with the code that says whose fault it is."""
    code = IO
    match error:
        case NotSupported() | InvalidSpec() | NotFound() | Forbidden():
            code = CONFIGURATION
        case Conflict():
            code = TAKEN
        case Busy() | Unreachable() | NoRoom():
            code = AGAIN
        case _:
            code = CONFIGURATION if error.status == 400 else IO
    return CniError(code, " ".join(str(error).split()), "\n".join(getattr(error, "__notes__", ())))
