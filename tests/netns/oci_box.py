"""Containers of real runc and conmon: busybox, a network namespace and cgroups of our own."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netkit.kernel import netns
from runtime.container.config import Config, HostConfig
from runtime.lifecycle.bundle import probe_host
from runtime.oci import spec
from runtime.oci.cgroups import Cgroups
from runtime.oci.inputs import ContainerPaths
from runtime.oci.process import Process
from runtime.oci.shim import ExitStatus, Shim
from runtime.oci.users import User

ID = "c0ffee" + 58 * "0"  # a real one: 64 hex digits
TOOLS = "sh cat echo env false grep head id ls pwd sleep stty touch true yes".split()


class Box:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"nk-{secrets.token_hex(3)}"
        self.netns = f"/run/netns/{self.name}"
        self.root = folder / "root"
        self.cgroups = Cgroups.probe()
        self.host = probe_host(self.cgroups)
        self.shim = Shim(folder / "run", self.cgroups)
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (self.root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.root / "bin" / "busybox")
        for name in TOOLS:
            (self.root / "bin" / name).symlink_to("busybox")
        (self.root / "etc" / "script").write_text("not executable\n")

    def reopened(self) -> Shim:
        """Return a shim as a daemon has it that starts on the same folder."""
        return Shim(self.folder / "run", self.cgroups)

    def log(self, id: str) -> Path:
        return self.folder / f"{id}.log"

    def document(
        self, id: str, cmd: list[str], h: HostConfig | None = None, *,
        pid: str = "private", **config: Any,
    ) -> dict[str, Any]:  # fmt: skip
        c = Config(cmd=cmd, hostname="box", **config)
        where = ContainerPaths(id=id, rootfs=str(self.root), netns=self.netns, pid=pid,
                            cgroup=f"/{self.name}/{id}")  # fmt: skip
        return spec.build(c, h or HostConfig(), where, User(), (), self.host)

    def create(
        self, id: str, cmd: list[str], h: HostConfig | None = None, *, stdin: bool = False,
        leave: bool = False, pid: str = "private", **config: Any,
    ) -> Process:  # fmt: skip
        document = self.document(id, cmd, h, pid=pid, **config)
        self.begin(id, stdin=stdin, leave=leave, tty=bool(config.get("tty")))
        return self.shim.create(id, document)

    def begin(
        self, id: str, *, stdin: bool = False, leave: bool = False, tty: bool = False
    ) -> None:
        self.shim.begin(
            id, log=self.log(id), terminal=tty, stdin=stdin, leave_stdin_open=leave
        )

    def run(self, id: str, cmd: list[str], h: HostConfig | None = None, **more: Any) -> Process:
        init = self.create(id, cmd, h, **more)
        self.shim.start(id)
        return init

    def process(self, cmd: list[str], **config: Any) -> dict[str, Any]:
        """Return process.json of one more process."""
        found: dict[str, Any] = self.document("x", cmd, **config)["process"]
        return found

    def exit(self, id: str, seconds: float = 60) -> ExitStatus:
        until = time.monotonic() + seconds
        while (status := self.shim.exit_status(id)) is None:
            assert time.monotonic() < until, f"{id} has no exit status after {seconds} s"
            time.sleep(0.002)
        return status

    def output(self, id: str) -> str:
        lines = self.log(id).read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    def groups(self) -> list[Path]:
        """List our cgroups, without the parent of all."""
        return [g for top in self.cgroups.folders(f"/{self.name}") for g in top.glob("*/")]

    def close(self) -> None:
        for id in self.shim.leftovers():
            self.shim.delete(id)
        self.cgroups.remove(f"/{self.name}")
        netns.remove(self.netns)


@contextmanager
def opened(folder: Path) -> Iterator[Box]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    box = Box(folder)
    try:
        netns.create(box.netns)
        yield box
    finally:
        box.close()
