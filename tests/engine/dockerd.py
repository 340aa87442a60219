"""dockerd and netkitd on one host, netkitd being dockerd's plugin.

Both in one mount namespace of their own, since dockerd's folder of plugins, /run/docker/plugins, is
fixed.  dockerd: NETKIT_TEST_DOCKERD, the root of unpacked packages, or the one in PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engine.daemon import Engine
from tests.engine.wire import Wire
from tests.fetching import CLONE

PATIENCE = 60.0  # seconds
REFERENCE = CLONE / ".reference"


def found() -> str:
    """Return the root of unpacked packages, "" for the installed dockerd; skip without one."""
    given = os.environ.get("NETKIT_TEST_DOCKERD", "")
    if given:
        return given
    if (REFERENCE / "usr/sbin/dockerd").exists():
        return str(REFERENCE)
    if shutil.which("dockerd"):
        return ""
    pytest.skip("no dockerd: install docker.io, or run script/reference")


class Member(Engine):
    """A daemon in the mount namespace of a process."""

    def __init__(self, wire: Wire, home: str, holder: int, **more: Any) -> None:
        self._home, self._holder = home, holder
        super().__init__(wire, **more)

    @property
    def netns(self) -> str:
        return self._home

    def _booted(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._holder}/ns/mnt", "--"]


class DockerHost:
    """`netkit` has the networks, `docker` the containers."""

    def __init__(
        self,
        wire: Wire,
        home: str,
        *,
        flags: Sequence[str] = (),
        netkitd: Sequence[str] = (),
        containers: bool = False,
    ) -> None:
        """`home` is the name of the host's network namespace.

        `containers`: netkit runs some, too, beside dockerd.
        """
        self._root = found()
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c",
             "mount -t tmpfs tmpfs /run && mkdir -p /run/docker/plugins /run/lock && echo ready"
             " && exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._holder.stdout.close()
        pid = self._holder.pid
        self.docker = Member(wire, home, pid, kind="dockerd", flags=flags)
        api = f"--docker-api={self.docker.host}"
        self.netkit = Member(
            wire, home, pid, kind="netkitd",
            flags=(
                *(("--bridge=none",) if containers else ("--containers=false",)),
                "--docker-plugin", api, *netkitd,
            ),
        )  # fmt: skip
        self.plugins = Path(f"/proc/{pid}/root/run/docker/plugins")

    def start(self) -> None:
        self.netkit.start()
        with unpacked(self._root):
            self.docker.start()

    def restart_docker(self) -> None:
        with unpacked(self._root):
            self.docker.restart()

    def destroy(self) -> None:
        """Remove all that both had."""
        try:
            if not self.netkit.running() and self.docker.running():
                self.docker.kill9()  # else it would wait for its plugin
            if self.docker.running():
                self.docker.clear()
                self.docker.stop()
        finally:
            try:
                # First, since its command line has dockerd's socket: dockerd's sweep would kill it
                # when it is still asked.
                self.netkit.destroy()
            finally:
                try:
                    self.docker.destroy()
                finally:
                    self._holder.kill()
                    self._holder.wait()

    # what tests ask

    def wait(self, what: str, done: Callable[[], object], within: float = PATIENCE) -> None:
        deadline = time.monotonic() + within
        while not done():
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.netkit.log_tail()}"
            time.sleep(0.05)

    def net(self, *args: str) -> Any:
        """An object of netkit's API, for `GET` of a path."""
        return self.netkit.client.api._result(
            self.netkit.client.api._get(self.netkit.client.api._url(*args)), True
        )

    def networks(self) -> list[Any]:
        """netkit's networks with their containers, but for the predefined ones."""
        found = (n for n in self.net("/networks") if n["Name"] not in {"host", "none"})
        return [self.net("/networks/{0}", n["Id"]) for n in found]

    def members(self) -> dict[str, str]:
        """Addresses by the names of containers, on all networks."""
        return {
            c["Name"]: c["IPv4Address"]
            for n in self.networks()
            for c in n["Containers"].values()
        }

    def named(self, *names: str) -> None:
        """Wait until netkit knows these containers by name, and no others."""
        self.wait(f"names {names}, have {self.members()}", lambda: {*self.members()} == {*names})

    def links(self) -> list[str]:
        """netkit's links and those on their way to a container."""
        done = subprocess.run(
            ["ip", "-n", self.netkit.netns, "-o", "link"], capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        names = [line.split(": ")[1].split("@")[0] for line in done.stdout.splitlines()]
        return [n for n in names if n.startswith(("veth", "nkd"))]


@contextmanager
def unpacked(root: str) -> Iterator[None]:
    """Set the variable by which `Engine` finds programs of unpacked packages."""
    before = os.environ.get("NETKIT_TEST_DOCKERD")
    if root:
        os.environ["NETKIT_TEST_DOCKERD"] = root
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("NETKIT_TEST_DOCKERD", None)


@contextmanager
def docker_host(
    *flags: str, netkitd: Sequence[str] = (), containers: bool = False
) -> Iterator[DockerHost]:
    wire = Wire.lay()
    try:
        host = DockerHost(wire, wire.host, flags=flags, netkitd=netkitd, containers=containers)
        try:
            host.start()
            host.docker.load_image()
            if containers:
                host.netkit.load_image()
            yield host
        finally:
            host.destroy()
    finally:
        wire.remove()
