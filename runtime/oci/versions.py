"""Read the versions of the programs that the daemon runs."""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache

SECONDS = 5.0  # timeout of `PROGRAM --version`


def version(path: str) -> str:
    """The version that `path --version` prints; "" if it prints none or cannot be run."""
    return _said(path)[0]


def commit(path: str) -> str:
    """The commit it was built from (a `commit:` line, else the version); "" if unknown."""
    found, built = _said(path)
    return built or found


def _said(path: str) -> tuple[str, str]:
    try:
        return _run(path, os.stat(path).st_mtime_ns)
    except (OSError, subprocess.SubprocessError):
        return "", ""


@lru_cache(maxsize=16)
def _run(path: str, changed_ns: int) -> tuple[str, str]:
    """Run it once for each state of the file: `changed_ns` is only part of the cache's key."""
    done = subprocess.run(
        [path, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False,
        errors="replace",
    )  # fmt: skip
    return parse(done.stdout)


def parse(text: str) -> tuple[str, str]:
    """(version, commit) in the output of runc, crun, conmon, tini and catatonit."""
    found, built = "", ""
    for line in text.splitlines():
        words = line.split()
        if "version" in words[:-1] and not found:
            found = words[words.index("version") + 1]
        if words[:1] == ["commit:"] and len(words) > 1 and words[1] != "unknown":
            built = words[1]
    return found, built
