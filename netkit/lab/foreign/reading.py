"""Read a file or folder of another tool, within bounds and without a step out of the folder."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import NamedTuple

from netkit.lab import document
from netkit.lab.document import LabFile
from netkit.lab.foreign import compose, containerlab, kathara, variables
from netkit.lab.foreign.draft import Draft

MAX_ENTRIES = 10_000  # of a folder
MAX_FILES = 2000  # that are read of one
_TOPOLOGY = re.compile(r".+\.clab\.ya?ml")
_SCRIPT = re.compile(r"[\w.-]+\.(startup|shutdown)|lab\.(conf|dep|ext)")
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder(NamedTuple):
    files: list[str]  # plain ones, by name
    others: list[str]  # folders with a slash behind, and what is neither


def read(path: str) -> Draft:
    """A containerlab topology, a compose file, or a folder with one of them or a lab.conf.

    LabFile says what is wrong with it, or that it is none of them.
    """
    if os.path.isdir(path):
        return _folder(path)
    name = os.path.basename(path)
    if name == kathara.CONF:
        return _kathara(os.path.dirname(path) or ".")
    return _file(os.path.dirname(path) or ".", name)


def _folder(path: str) -> Draft:
    found = _listed(path)
    if kathara.CONF in found.files:
        return _kathara(path)
    one = [name for name in found.files if _TOPOLOGY.fullmatch(name) or name in compose.NAMES]
    if len(one) != 1:
        listed = f"{', '.join(sorted(one))}: give one of them" if one else "none"
        raise LabFile(f"{path}: needs a lab.conf, a *.clab.yml or a compose file, and has {listed}")
    return _file(path, one[0])


def _file(folder: str, name: str) -> Draft:
    text = _text(folder, name)
    if re.search(r"^topology\s*:", text, re.M):
        return containerlab.read(text, name)
    if re.search(r"^services\s*:", text, re.M):
        with suppress(FileNotFoundError):
            return compose.read(text, name, variables.of_file(_text(folder, ".env")))
        return compose.read(text, name, {})
    raise LabFile(
        f"{name}: is neither a topology of containerlab nor a compose file nor a lab.conf"
    )


def _kathara(folder: str) -> Draft:
    found = _listed(folder)
    scripts = sorted(name for name in found.files if _SCRIPT.fullmatch(name))
    if len(scripts) > MAX_FILES:
        raise LabFile(f"{folder}: has more than {MAX_FILES} files of a lab")
    files, size = {}, 0
    for name in scripts:
        files[name] = _text(folder, name)
        size += len(files[name])
        if size > document.MAX_BYTES:
            raise LabFile(f"{folder}: its files have more than {document.MAX_BYTES >> 20} MiB")
    more = [name for name in found.files if name not in files]
    name = os.path.basename(os.path.abspath(folder))
    return kathara.read(files, sorted([*found.others, *more]), name)


def _listed(path: str) -> Folder:
    out = Folder([], [])
    try:
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries):
                if number >= MAX_ENTRIES:
                    raise LabFile(f"{path}: has more than {MAX_ENTRIES} entries")
                if entry.is_file(follow_symlinks=False):
                    out.files.append(entry.name)
                else:
                    inner = entry.is_dir(follow_symlinks=False)
                    out.others.append(f"{entry.name}/" if inner else entry.name)
    except OSError as error:
        raise LabFile(f"{path}: {error.strerror}") from None
    return out


def _text(folder: str, name: str) -> str:
    """Of a plain file; a symbolic link is not followed.  FileNotFoundError for a missing .env."""
    path = os.path.join(folder, name)
    try:
        fd = os.open(path, _PLAIN)
    except FileNotFoundError:
        if name == ".env":
            raise
        raise LabFile(f"{path}: no such file") from None
    except OSError as error:
        why = (
            "is a symbolic link, which is not followed" if os.path.islink(path) else error.strerror
        )
        raise LabFile(f"{path}: {why}") from None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise LabFile(f"{path}: is no plain file")
        return document.decoded(file.read(document.MAX_BYTES + 1), name)
