"""What tests need of Debian beyond installed packages, fetched while the first stages run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
# Ends with the runner, even if that is killed.
TIED = ("setpriv", "--pdeathsig", "KILL", "--")


def kill(process: subprocess.Popen[bytes] | subprocess.Popen[str], number: int) -> None:
    """Signal a process and its group, unless it has ended, and wait for its end."""
    if process.poll() is None:
        os.killpg(process.pid, number)
        process.wait()


@dataclass
class Fetch:
    """Debian packages, or an image of them, that stages need: made while other stages run."""

    command: tuple[str, ...]
    needed: bool = True  # else what needs it skips, and gives the reason
    program: tuple[str, str] = ("", "")  # a variable, which gets this path below the folder
    absent: str = ""  # a variable, which gets the reason
    stages: frozenset[str] = frozenset({"engine"})  # that need it
    process: subprocess.Popen[str] | None = None
    why: str = ""
    found: dict[str, str] | None = None

    def start(self) -> None:
        # One after another: `apt-get update` locks its lists.
        self.process = subprocess.Popen(
            [*TIED, "flock", "script/unpack", *self.command], cwd=CLONE, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self) -> dict[str, str]:
        """Return variables for the environment of the stages that need it."""
        if self.found is None:
            self.found = self._wait()
        return self.found

    def _wait(self) -> dict[str, str]:
        assert self.process is not None
        folder, errors = self.process.communicate()
        if self.process.returncode == 0:
            name, path = self.program
            return {name: f"{folder.strip()}/{path}"} if name else {}
        self.why = " ".join(errors.split()) or f"exit {self.process.returncode}"
        return {self.absent: self.why} if self.absent else {}

    def kill(self) -> None:
        if self.process is not None:
            kill(self.process, signal.SIGTERM)


def fetches() -> list[Fetch]:
    """docker-compose 1.29 and 2, Debian for labs, podman, cnitool, Open vSwitch 3.5, chromium;
    docker where there is none."""
    labs = frozenset({"engine", "labs"})
    found = [
        Fetch(("script/debian",), program=("NETKIT_BOOTSTRAP_CACHE", ""), stages=labs),
        Fetch(("script/podman",), program=("NETKIT_TEST_PODMAN", ""), stages=labs),
        Fetch(
            ("script/cnitool",),
            needed=False,
            program=("NETKIT_TEST_CNITOOL", ""),
            absent="NETKIT_TEST_CNITOOL_ABSENT",
            stages=frozenset({"engine"}),
        ),
        Fetch(("script/compose",)),
        Fetch(("script/compose", "v2"), needed=False, absent="NETKIT_TEST_COMPOSE_ABSENT"),
        Fetch(
            ("script/openvswitch",),
            needed=False,
            program=("NETKIT_TEST_OPENVSWITCH", ""),
            absent="NETKIT_TEST_OPENVSWITCH_ABSENT",
            stages=frozenset({"netns"}),
        ),
        Fetch(
            ("script/chromium",),
            needed=False,
            program=("NETKIT_TEST_CHROMIUM", ""),
            absent="NETKIT_TEST_CHROMIUM_ABSENT",
            stages=labs,
        ),
    ]
    if not shutil.which("dockerd"):
        program = ("NETKIT_TEST_DOCKERD", "")
        found.append(Fetch(("script/reference",), needed=False, program=program, stages=labs))
    if not shutil.which("docker"):
        program = ("NETKIT_TEST_DOCKER_CLI", "usr/bin/docker")
        found.append(Fetch(("script/reference",), program=program, stages=labs))
    return found
