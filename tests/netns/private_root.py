"""A throw-away root file system for code that is expected to go where it must not.

In mount and process namespaces of its own: a tmpfs is the root, with the system, Python and this
checkout mounted read-only; nothing else of the machine can be named.  The command runs as root of a
user namespace, which is nobody outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
_NOBODY = "65534"
_ENTER = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=256m tmpfs "$1"
cd "$1"
shift
while [ "$1" != -- ]; do
    if [ -L "$1" ]; then
        cp -P "$1" ".$1"
    elif [ -e "$1" ]; then
        mkdir -p ".$1"
        mount --bind "$1" ".$1"
        mount -o remount,bind,ro,nosuid ".$1"
    fi
    shift
done
shift
mkdir -p proc dev old race
chown "$0" race
mount -t proc proc proc
touch dev/null
mount --bind /dev/null dev/null
pivot_root . old
umount -l old
rmdir old
cd /race
exec setpriv --reuid "$0" --regid "$0" --clear-groups --no-new-privs \
    unshare --user --map-root-user -- "$@"
"""


def lacking() -> str:
    """What keeps it from working here, "" if nothing."""
    if os.geteuid() != 0:
        return "needs root"
    tools = [t for t in ("unshare", "setpriv", "pivot_root") if not shutil.which(t)]
    if tools:
        return f"needs {', '.join(tools)} in PATH"
    probe = ("setpriv", "--reuid", _NOBODY, "--regid", _NOBODY, "--clear-groups", "unshare", "--user", "true")  # fmt: skip  # noqa: E501
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "needs user namespaces for unprivileged users"
    return ""


def run_private(place: Path, *argv: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command there, in /race, which is empty.  `place`: an empty directory."""
    seen = dict.fromkeys([*_SYSTEM, sys.base_prefix, sys.prefix, str(CHECKOUT)])
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", _ENTER, _NOBODY,
         str(place), *seen, "--", *argv],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(CHECKOUT),
             "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def python(module: str, *args: str) -> Sequence[str]:
    return (sys.executable, "-m", module, *args)
