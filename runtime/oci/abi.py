"""Detect which additional system call ABIs the kernel has.

Each ABI makes a seccomp filter longer: of the 60 ms that runc takes to create a container, x32
costs 10, and few kernels have it.
"""

from __future__ import annotations

import subprocess
import sys

X32 = "SCMP_ARCH_X32"
# getpid(2), number 39 with __X32_SYSCALL_BIT (linux/unistd.h): ENOSYS where there is no x32.
_ASK = "import ctypes; raise SystemExit(ctypes.CDLL(None).syscall(0x40000000 + 39) < 0)"


def absent(machine: str) -> frozenset[str]:
    """ABIs of this machine (`uname -m`) that the kernel does not support.

    Tried in a child process: a seccomp filter on the daemon may kill the caller.
    """
    if machine != "x86_64":
        return frozenset()
    argv = [sys.executable, "-I", "-S", "-c", _ASK]
    asked = subprocess.run(argv, capture_output=True, check=False)
    return frozenset() if asked.returncode == 0 else frozenset({X32})
