"""Run programs that mount and start things so that nothing of them stays, however they end."""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from netkit.errors import KernelError

Say = Callable[[str], None]  # called with a line
TAIL = 20  # lines that an error is looked for in
LINE_BYTES = 4096
# Mounts end with the mount namespace, processes with process 1 of theirs, and that with us, even
# by SIGKILL.  debootstrap leaves /proc and /sys mounted in its target when it is interrupted.
ALONE = (
    "setpriv", "--pdeathsig", "KILL", "--",
    "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL",
    "--mount-proc", "--",
)  # fmt: skip
PASSED = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "SOURCE_DATE_EPOCH")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What programs and maintainer scripts see: the same on each machine, but for proxies."""
    return {
        **{name: given[name] for name in PASSED if name in given},
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC0", "DEBIAN_FRONTEND": "noninteractive",
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
    }  # fmt: skip


def run(
    argv: Sequence[str], log: Say = lambda line: None, epoch: int | None = None,
    alone: Sequence[str] = ALONE,
) -> str:  # fmt: skip
    """Run a program to its end; return its output.  `log` is called with each line.

    KernelError has the line with the error.  When this is interrupted, all processes have ended
    before it raises.
    """
    more = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
    process = subprocess.Popen(
        [*alone, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=environment(os.environ) | more, umask=0o022, cwd="/",
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        while data := process.stdout.readline(LINE_BYTES):
            lines.append(data.decode(errors="replace").rstrip("\n"))
            log(lines[-1])
        process.wait()
    except BaseException:
        process.kill()
        while process.stdout.read(LINE_BYTES):  # its end: no process of it is left
            pass
        process.wait()
        raise
    finally:
        process.stdout.close()
    if process.returncode != 0:
        raise KernelError(f"{argv[0]} failed: {reason(lines, process.returncode)}")
    return "\n".join(lines)


def reason(lines: Sequence[str], code: int) -> str:
    """The line of a log that says why."""
    last = deque((line for line in lines if line.strip()), TAIL)
    errors = [line for line in last if line.startswith(("E:", "dpkg: error", "tar:"))]
    found = errors[-1] if errors else last[-1] if last else f"exit code {code}"
    return found.removeprefix("E: ").strip()
