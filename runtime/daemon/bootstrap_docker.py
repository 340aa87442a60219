"""Construct the front end for dockerd: its handlers, their sockets, what follows dockerd."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netkit.driver import Driver, traits_of
from netkit.frontends.libnetwork import frontend
from netkit.frontends.libnetwork.following import Following
from netkit.frontends.libnetwork.frontend import Frontend
from netkit.frontends.libnetwork.plugin import IPAM
from netkit.ipam.pools import DEFAULT_POOLS, parse_pool
from netkit.kernel.netlink.observe import HostNamespaces
from netkit.store import Database
from runtime.api.plugin import make_plugin_app
from runtime.api.server.listen_address import TlsOptions, UnixAddress
from runtime.api.server.listeners import Listener, open_all
from runtime.api.server.serve import Serving, serve
from runtime.daemon.bootstrap_network import NetworkServices
from runtime.daemon.config import DaemonConfig
from runtime.daemon.discovery import load_drivers, occupied_subnets
from runtime.lifecycle.recovery import Recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerServices:
    frontend: Frontend
    following: Following

    def start(self) -> None:
        """After networks and containers were restored."""
        self.frontend.recover()
        self.frontend.start()
        self.following.start()

    def close(self) -> None:
        self.following.close()
        self.frontend.close()


def build_docker_services(
    config: DaemonConfig, database: Database, below: NetworkServices, recovery: Recovery
) -> DockerServices | None:
    """None where netkitd is no plugin, and no container of dockerd's is on its networks."""
    pools = tuple(parse_pool(base, size) for base, size in config.default_address_pools)
    wake = threading.Event()
    front = frontend.build(
        database,
        below.networks,
        pools=pools or DEFAULT_POOLS,
        occupied=occupied_subnets,
        token=lambda: secrets.token_hex(32),
        now=lambda: int(time.time()),
        changed=wake.set,
        namespaces=HostNamespaces(),
    )
    if config.plugin_folder is None and not front.tables.networks():
        return None
    recovery.other_engines.append(front.live)
    below.networks.also_occupied.append(front.plugin.pools.unbound)
    return DockerServices(frontend=front, following=Following(front, config.docker_api, wake))


def sockets(folder: Path) -> Mapping[str, str]:
    """Paths of the plugin sockets, and the driver of each; "" is the IPAM."""
    found = {str(folder / f"{IPAM}.sock"): ""}
    return found | {str(folder / f"{IPAM}-{n}.sock"): n for n in sorted(_offered(load_drivers()))}


def _offered(drivers: Mapping[str, Driver]) -> set[str]:
    """Names of drivers of which users make networks, with addresses."""
    return {n for n, d in drivers.items() if d.uses_ipam and not traits_of(d).single_instance}


def open_sockets(folder: Path | None) -> list[Listener]:
    """Open all or none, for root alone.  dockerd connects during the start, and waits."""
    addresses = [UnixAddress(path=Path(path)) for path in (sockets(folder) if folder else ())]
    return open_all(addresses, tls=TlsOptions(), insecure=False, environ={}, group="root")


async def serve_plugin(
    listeners: Sequence[Listener], services: DockerServices | None
) -> Serving | None:
    """Answer dockerd's calls; None where netkitd is no plugin."""
    if not listeners or services is None:
        return None
    folder = next(listener.path for listener in listeners if listener.path).parent
    return await serve(make_plugin_app(services.frontend.plugin, sockets(folder)), listeners)
