"""Owners that --chown names, by the files of the image."""

from __future__ import annotations

import os
import re

from runtime.build.errors import BuildFailed, reason
from runtime.filetree.scoped_root import Root
from runtime.numbers import natural
from runtime.oci.users import MAX_ID

_NUMBER = re.compile(r"[+-]?[0-9]+")
_LARGEST = 1 << 63  # Go's Atoi
_BYTES = 16 << 20  # of a passwd or group file

Owner = tuple[int, int]  # user, group; -1: as it is
ROOT: Owner = (0, 0)


def owner(image: Root, chown: str) -> Owner:
    """The owner that "user", "user:group" or numbers name.  BuildFailed in Docker's words.

    A name alone is the user's and the group's, a number, too; neither needs to be in a file.
    """
    parts = chown.split(":")
    try:
        if len(parts) > 2:
            raise BuildFailed(f"invalid chown string format: {chown}")
        user, group = parts[0], parts[-1]
        return _id(image, "user", "uid", user), _id(image, "group", "gid", group)
    except BuildFailed as error:
        raise BuildFailed(
            f"unable to convert uid/gid chown string to host mapping: {error}"
        ) from error


def _id(image: Root, kind: str, number: str, name: str) -> int:
    if _NUMBER.fullmatch(name) and len(name) < 21 and -_LARGEST <= int(name) < _LARGEST:
        value = int(name) & 0xFFFFFFFF  # as chown(2) takes it
        return -1 if value == 0xFFFFFFFF else value
    path = "/etc/passwd" if kind == "user" else "/etc/group"
    try:
        found = _found(image, path, name)
    except OSError as error:
        raise BuildFailed(
            f"can't find {number} for {kind} {name}: open {path}: {reason(error)}"
        ) from error
    if found is None:
        raise BuildFailed(f"can't find {number} for {kind} {name}: no such {kind}: {name}")
    return found


def _found(image: Root, path: str, name: str) -> int | None:
    os.close(image.open(path, os.O_PATH))  # read_file takes a file that is not there as empty
    for line in image.read_file(path, _BYTES).decode(errors="replace").splitlines():
        fields = line.strip().split(":")
        if len(fields) > 2 and fields[0] == name and not line.startswith("#"):
            return natural(fields[2], MAX_ID) or 0
    return None
