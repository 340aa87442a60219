"""Parse and check the API version of a request.  Pure."""

from __future__ import annotations

import re

from netkit.errors import InvalidSpec

ApiVersion = tuple[int, ...]

NEWEST: ApiVersion = (1, 51)  # Docker 28.3: CLIs from 20.10 to 29 negotiate down to it
# dockerd 28 serves 1.24; Debian 12's skopeo requests 1.22, whose image calls are the same
OLDEST: ApiVersion = (1, 22)
_PREFIX = re.compile(r"/v([0-9][0-9.]*)(/.*)")


def text(version: ApiVersion) -> str:
    return ".".join(str(part) for part in version)


def split(path: str) -> tuple[ApiVersion, str]:
    """The requested version and the rest of the path; without a prefix the newest.

    InvalidSpec in Docker's words for a version that is not served.
    """
    found = _PREFIX.fullmatch(path)
    if not found:
        return NEWEST, path
    asked = tuple(int(part) for part in found[1].split(".") if part)
    if asked > NEWEST:
        raise InvalidSpec(
            f"client version {found[1]} is too new. Maximum supported API version is {text(NEWEST)}"
        )
    if asked < OLDEST:
        raise InvalidSpec(
            f"client version {found[1]} is too old. Minimum supported API version is "
            f"{text(OLDEST)}, please upgrade your client to a newer version"
        )
    return asked, found[2]
