"""Files named .wh.NAME, which remove NAME: layers have them, and what is copied into one may.

dockerd copies them as files, and its layer's archive then means that NAME is deleted; so it is
deleted here where it is (image-spec layer.md, "Whiteouts").
"""

from __future__ import annotations

import os

from runtime.build.errors import BuildFailed
from runtime.filetree.remove import remove_content, remove_entry

_PREFIX, _OPAQUE, _OTHER = ".wh.", ".wh..wh..opq", ".wh..wh."


def is_whiteout(name: str) -> bool:
    return name.startswith(_PREFIX)


def hide(folder: int, name: str) -> None:
    """Do what the whiteout `name` says in the directory: OSError, BuildFailed."""
    if name == _OPAQUE:
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            remove_content(top)
        finally:
            os.close(top)
    elif not name.startswith(_OTHER):
        hidden = name.removeprefix(_PREFIX)
        if hidden in {"", ".", ".."}:
            raise BuildFailed(f"{name!r} names no file that could be deleted")
        remove_entry(folder, hidden)
