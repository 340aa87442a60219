"""Find the programs that run containers: conmon, and runc or crun."""

from __future__ import annotations

import os
import shutil

from netkit.errors import InvalidSpec
from runtime.oci.cgroups import Cgroups

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str) -> str:
    found = shutil.which(name, path=SEARCH)
    if not found:
        raise InvalidSpec(f"{name} is not installed: install the package {name}")
    return found


def runtime(requested: str, cgroups: Cgroups) -> str:
    """Path of the OCI runtime to use; InvalidSpec if there is none.

    crun up to 1.8 refuses hosts whose cgroups are hybrid, so runc is tried first.
    """
    if requested not in {"auto", ""}:
        if "/" in requested:
            if not os.access(requested, os.X_OK):
                raise InvalidSpec(f"--runtime {requested}: no such program")
            return requested
        return find(requested)
    for name in ("runc", "crun"):
        if (path := shutil.which(name, path=SEARCH)) and (name != "crun" or cgroups.version == 2):
            return path
    raise InvalidSpec("no container runtime found: install the package runc")
