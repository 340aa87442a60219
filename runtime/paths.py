"""Paths of the engine's files.

`root` (/var/lib/netkit) persists over a reboot: configuration, images, writable layers, logs.
`run` (/run/netkit) does not, and must not: its sockets, namespaces, mounts and processes do not
either.  Modes are Docker's: `root` is 0710, `run` 0711 for the socket in it; everything below is
for root only (CVE-2021-41091), except three files of a container that its users read: hosts,
hostname and resolv.conf.
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
    def init_layers(self) -> Path:
        """See runtime.rootfs.init_layers."""
        return self.root / "init"

    @property
    def builds(self) -> Path:
        """Contexts and downloads of builds, for as long as they take."""
        return self.root / "builds"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

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

    def shared_memory(self, id: str) -> Path:
        """Where the /dev/shm of a container with shareable IPC is mounted."""
        return self.run / "shm" / id

    def staged(self, key: str) -> Path:
        """What is mounted for the mounts of one container, to be bound into it."""
        return self.run / "staged" / key

    def namespace(self, id: str) -> Path:
        return Path(self.namespace_file(id))

    def namespace_file(self, id: str) -> str:
        """As `namespace`, for who names thousands: paths are built part by part."""
        return f"{self.run}/netns/{id[:12]}"

    @property
    def unrelated(self) -> tuple[Path, ...]:
        """Directories of `make` with a directory for each container or volume."""
        containers = self.root / "containers"
        return containers, self.snapshots, self.volumes, self.run / "rootfs"

    def make(self) -> None:
        """Create the directories; existing ones get the current modes."""
        for top, mode in ((self.root, 0o710), (self.run, 0o711)):
            top.mkdir(mode=mode, parents=True, exist_ok=True)
            top.chmod(mode)
        for below in (
            self.root / "containers",
            self.images,
            self.snapshots,
            self.builds,
            self.volumes,
            self.netns,
            self.run / "rootfs",
            self.run / "shm",
            self.run / "staged",
        ):
            below.mkdir(mode=0o700, exist_ok=True)
            below.chmod(0o700)
