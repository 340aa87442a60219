"""Where the engine keeps what.

`root` (/var/lib/netkit) outlives a reboot: what was asked for, images, writable layers, logs.
`run` (/run/netkit) does not, and must not: sockets, namespaces, mounts and processes go with it.
Everything below either is 0700 but the two top directories, which are 0711: a container's own
files are nobody else's business (CVE-2021-41091).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    root: Path
    run: Path

    @property
    def database(self) -> Path:
        return self.root / "netkit.db"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def netns(self) -> Path:
        return self.run / "netns"

    @property
    def dns(self) -> Path:
        return self.run / "dns"

    @property
    def lock(self) -> Path:
        return self.run / "netkitd.lock"

    def container(self, id: str) -> Path:
        """Files of one container that are bind-mounted into it, and its log."""
        return self.root / "containers" / id

    def log(self, id: str) -> Path:
        return self.container(id) / "container.log"

    def hosts(self, id: str) -> Path:
        return self.container(id) / "hosts"

    def hostname(self, id: str) -> Path:
        return self.container(id) / "hostname"

    def resolv(self, id: str) -> Path:
        return self.container(id) / "resolv.conf"

    def rootfs(self, id: str) -> Path:
        return self.run / "rootfs" / id

    def namespace(self, id: str) -> Path:
        return self.netns / id[:12]

    def make(self) -> None:
        for top in (self.root, self.run):
            top.mkdir(mode=0o711, parents=True, exist_ok=True)
        for below in (
            self.root / "containers",
            self.images,
            self.snapshots,
            self.netns,
            self.run / "rootfs",
        ):
            below.mkdir(mode=0o700, exist_ok=True)
