"""Write a container's network files: hosts, hostname, resolv.conf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from netkit.gone import gone
from netkit.spec import EndpointRecord
from runtime.container.model import Container
from runtime.filetree.small_file import content
from runtime.network import etc_files
from runtime.paths import Paths


class DnsDefaults(Protocol):
    """The DNS settings of the daemon's configuration (`dns`, `dns-search`, `dns-opts`)."""

    @property
    def dns(self) -> Sequence[str]: ...
    @property
    def dns_search(self) -> Sequence[str]: ...
    @property
    def dns_opts(self) -> Sequence[str]: ...


class EtcFiles:
    """`named`: do containers on a network, given by id, use the embedded resolver?"""

    def __init__(
        self,
        paths: Paths,
        config: DnsDefaults,
        *,
        named: Callable[[str], bool],
        host_gateway: Callable[[], str],
        links: Callable[[Container], list[tuple[str, str]]],
    ) -> None:
        self._paths = paths
        self._config = config
        self._named = named
        self._host_gateway = host_gateway
        self._links = links  # (address, names)

    def create(self, c: Container) -> None:
        """Create those files that are not there, empty: to be mounted before they are written."""
        self._paths.container(c.id).mkdir(mode=0o700, exist_ok=True)
        for path in (self._paths.hostname(c.id), self._paths.hosts(c.id), self._paths.resolv(c.id)):
            path.touch(mode=0o644)

    def write(self, c: Container, joined: Sequence[EndpointRecord]) -> None:
        """Write the files at a start, and when endpoints change; inodes are kept."""
        if c.host_config.network_of is not None:
            return
        folder = self._paths.container(c.id)
        folder.mkdir(mode=0o700, exist_ok=True)
        etc_files.write_in_place(self._paths.hostname(c.id), f"{self._hostname(c)}\n")
        etc_files.write_in_place(self._paths.hosts(c.id), self._hosts(c, joined))
        etc_files.write_in_place(self._paths.resolv(c.id), self.resolver(c, joined)[0])

    @staticmethod
    def _hostname(c: Container) -> str:
        if c.config.hostname:
            return c.config.hostname
        return content("/proc/sys/kernel/hostname").decode().strip()

    def _hosts(self, c: Container, joined: Sequence[EndpointRecord]) -> str:
        extra = c.host_config.extra_hosts or []
        if c.host_config.network_mode == "host" and not extra:  # as Docker: the host's file
            try:
                return Path("/etc/hosts").read_text()
            except OSError as error:
                if not gone(error):
                    raise
        return etc_files.render_hosts(
            hostname=c.config.hostname,
            domainname=c.config.domainname,
            extra_hosts=extra,
            host_gateway=self._host_gateway(),
            endpoints=joined,
            links=self._links(c),
        )

    def resolver(
        self, c: Container, joined: Sequence[EndpointRecord], host: str | None = None
    ) -> tuple[str, list[str]]:
        """(text of resolv.conf, upstream servers); `host` is `host_text`, if it was just read."""
        return etc_files.render_resolv_conf(
            self.host_text() if host is None else host,
            dns=c.host_config.dns or list(self._config.dns),
            search=c.host_config.dns_search or list(self._config.dns_search),
            options=c.host_config.dns_options or list(self._config.dns_opts),
            embedded=any(self._named(e.network) for e in joined),
            shares_host=c.host_config.network_mode == "host",
        )

    def host_servers(self) -> list[str]:
        """Upstream servers for a container without settings of its own: another engine's."""
        return etc_files.render_resolv_conf(
            self.host_text(), dns=self._config.dns, search=(), options=(), embedded=True
        )[1]

    @staticmethod
    def host_text() -> str:
        """Read the host's resolv.conf; "" where there is none."""
        return etc_files.host_resolv_text()
