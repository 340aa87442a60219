"""Contexts for tests: archives made of a few entries, owned by whoever runs the tests."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

from runtime.build.context import BuildContext, receive

TIME = 1_500_000_000
FROM = "FROM busybox\n"


def packed(tree: dict[str, Any], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar: names to text, or to fields of TarInfo and "text"; "name/" is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, given in tree.items():
            fields = {"text": given} if isinstance(given, (str, bytes)) else dict(given)
            info = tarfile.TarInfo(name.rstrip("/") or ".")
            text = fields.pop("text", "")
            data = text.encode() if isinstance(text, str) else text
            info.uid, info.gid, info.mtime, info.mode = os.getuid(), os.getgid(), TIME, 0o644
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            if "linkname" in fields:
                info.type = tarfile.SYMTYPE
            for key, value in fields.items():
                setattr(info, key, value)
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def left(folder: Path) -> list[str]:
    """What is in a folder once contexts have been removed, which is done on another thread."""
    deadline = time.monotonic() + 30
    while (found := os.listdir(folder)) and time.monotonic() < deadline:
        time.sleep(0.002)
    return found


def context(tree: dict[str, Any], folder: Path, **how: bool) -> BuildContext:
    tree = {"Dockerfile": FROM, **tree}
    return receive(io.BytesIO(packed(tree)), folder, dockerfile="Dockerfile", **how)
