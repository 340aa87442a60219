"""Programs of Open vSwitch and OVN: run for an answer, or found again as daemons."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from netkit.errors import KernelError
from netkit.gone import if_there

PATIENCE = 20.0  # seconds a program may take
END = 3.0  # seconds until a daemon that hangs is killed
POLL = 0.1  # seconds
PLACES = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR")
PACKAGES = {"ovn": "ovn-central", "ovs": "openvswitch-common and openvswitch-switch"}


def tool(run: Path, *argv: str) -> str:
    """Return what it prints; its sockets are in the folder `run`.  KernelError if it fails."""
    try:
        done = subprocess.run(
            argv, env={**os.environ, **dict.fromkeys(PLACES, str(run))}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise missing(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise KernelError(f"{argv[0]} took more than {PATIENCE:g} s") from None
    if done.returncode != 0:
        raise KernelError(f"{argv[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def missing(program: str) -> KernelError:
    return KernelError(f"{program} is missing: install {PACKAGES[program[:3]]}")


def daemon(pidfile: Path, program: str, word: str) -> int:
    """The pid of a daemon that has `word` in its command line; 0 if it does not run."""
    with suppress(ValueError), if_there():
        pid = int(pidfile.read_text())
        words = words_of(pid)
        if words[0].endswith(program) and word in words:
            return pid
    return 0


def words_of(pid: int) -> list[str]:
    """Of its command line; [""] once it is a zombie."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


def stop(pidfile: Path, program: str, word: str) -> None:
    """End it, by SIGKILL if it takes more than 3 s, and wait until it has ended."""
    begin = time.monotonic()
    while pid := daemon(pidfile, program, word):
        late = time.monotonic() - begin > END
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(POLL)
