"""What the configuration says about registries, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HUB = "docker.io"  # the registry of names without one
HUB_HOST = "registry-1.docker.io"  # where it is
HUB_NAMES = frozenset({HUB, HUB_HOST, "index.docker.io"})
INDEX_HOST = "index.docker.io"  # where it is searched


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    mirrors: tuple[str, ...] = ()  # URLs with a slash at the end; for docker.io only
    insecure: tuple[str, ...] = ()  # HOST, HOST:PORT or a network; loopback always is
    certificates: Path = Path("/etc/netkit/certs.d")  # a folder for each HOST[:PORT]
    logins: Path = Path("/etc/netkit/config.json")  # Docker's format: the daemon's own
    downloads: int = 3  # layers at a time, of all pulls
    uploads: int = 5  # of all pushes
    attempts: int = 5  # of a download without progress
    pause: float = 1.0  # seconds before the second attempt; doubled before each further one
    hub: str = HUB_HOST  # for tests
    scheme: str = "https"  # of the hub, for tests
