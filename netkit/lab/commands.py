"""Run commands on a host of a lab."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from netkit.errors import KernelError
from netkit.lab import engines, mounts
from netkit.lab.daemon import clean_environment, named
from netkit.lab.model import Places

COMMAND_SECONDS = 30.0


def environment(places: Places, host: str) -> dict[str, str]:
    """For commands run on a host: its engine is the one that clients talk to."""
    return clean_environment() | {
        "NETKIT_HOST": f"unix://{places.socket(host)}", "PATH": engines.path(places, host),
        "OVS_RUNDIR": places.ovs(host), "DOCKER_CONFIG": places.client(host),
        **engines.environment(places, host),
    }  # fmt: skip


def inside(places: Places, host: str, words: Sequence[str]) -> list[str]:
    """By iproute2, which gives the command a /sys of the namespace as well."""
    given = named(host, words)
    if own := mounts.entered(places, host, given):
        return own
    return ["ip", "netns", "exec", places.namespace(host), *given]


def attempt(places: Places, host: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run it, whatever its exit code."""
    return subprocess.run(
        inside(places, host, words), env=environment(places, host), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
    )  # fmt: skip


def run(places: Places, host: str, line: str | Sequence[str]) -> str:
    """Run a command on a host; return its output.  KernelError with its message if it fails."""
    words = shlex.split(line) if isinstance(line, str) else list(line)
    try:
        done = attempt(places, host, words)
    except subprocess.TimeoutExpired:
        raise KernelError(f"{host}: {shlex.join(words)}: no end in {COMMAND_SECONDS:g} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise KernelError(f"{host}: {shlex.join(words)}: {said}")
    return done.stdout
