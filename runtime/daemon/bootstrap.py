"""Construct and connect the parts of a daemon: networks first, then containers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from netkit.driver import OverlayPorts
from netkit.frontends.cni.service import CniService
from netkit.kernel.iptables import br_netfilter
from netkit.network.controller import Controller
from netkit.store import Database
from runtime.daemon.bootstrap_builds import build_build_service
from runtime.daemon.bootstrap_cni import build_cni_service
from runtime.daemon.bootstrap_containers import CGROUP, ContainerServices, build_container_services
from runtime.daemon.bootstrap_docker import DockerServices, build_docker_services
from runtime.daemon.bootstrap_metrics import Sources, build_sources
from runtime.daemon.bootstrap_network import NetworkServices, build_network_services
from runtime.daemon.bootstrap_registry import build_registry_service
from runtime.daemon.bootstrap_weave import build_weave_service
from runtime.daemon.config import DaemonConfig
from runtime.daemon.discovery import load_drivers
from runtime.daemon.engine_id import identity
from runtime.daemon.facts import configured, of_host, programs
from runtime.daemon.firewall_backend import layouts
from runtime.deferred import deferred
from runtime.events import EventBus
from runtime.images.store import ImageStore
from runtime.lifecycle.exec import ExecService
from runtime.lifecycle.health import HealthChecks
from runtime.lifecycle.recovery import Recovery
from runtime.lifecycle.service import ContainerService
from runtime.network.cluster import ClusterService
from runtime.network.everyone import Everyone
from runtime.network.networks import NetworksService
from runtime.network.ovn import OvnService
from runtime.network.weave.findings import WeaveFindings
from runtime.network.weave.service import WeaveService
from runtime.oci.cgroups import Cgroups
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.system import SystemService
from runtime.volumes.service import VolumeService
from runtime.watch.service import WatchService

if TYPE_CHECKING:  # made when they are first used
    from runtime.build.service import BuildService
    from runtime.network.firewall import FirewallService
    from runtime.network.trace import TraceService
    from runtime.registry.service import RegistryService


@dataclass(slots=True)
class Engine:
    """Implements ports.Engine."""

    containers: ContainerService
    execs: ExecService
    images: ImageStore
    registries: RegistryService
    builds: BuildService
    events: EventBus
    system: SystemService
    volumes: VolumeService
    networks: NetworksService
    firewall: FirewallService
    trace: TraceService
    watch: WatchService
    cluster: ClusterService
    ovn: OvnService
    weave: WeaveService
    cni: CniService


@dataclass(frozen=True, slots=True)
class Daemon:
    engine: Engine
    engine_id: str
    recovery: Recovery
    health: HealthChecks
    docker: DockerServices | None
    restore: Callable[[], None]
    close: Callable[[], None]
    metrics: Sources


def bootstrap(
    config: DaemonConfig, paths: Paths, loop: asyncio.AbstractEventLoop, workers: Executor
) -> Daemon:
    database = Database(paths.database)
    engine_id = identity(database)
    events = EventBus(loop)
    # Before networks are touched: it fails if runc or conmon is missing.
    shim = Shim(paths.run, Cgroups.probe(), runtime=config.runtime, required=config.containers)
    below = build_network_services(config, paths, database, engine_id)
    above = build_container_services(
        config, paths, database, below, shim, events=events, loop=loop, workers=workers
    )
    facts = {**of_host(shim, above.init), **configured(config, below)}
    backend = facts["FirewallBackend"]
    registries = build_registry_service(config, database, above.images, events)
    builds, sweep_builds = build_build_service(paths, database, above, registries)
    networks = NetworksService(below.networks, events, below.peers, config.default_network_opts)
    weave, overlay = _weave(below, above, networks)
    cni = build_cni_service(database, below, networks, above.recovery)
    engine = Engine(
        containers=above.containers,
        execs=above.execs,
        images=above.images,
        registries=registries,
        builds=builds,
        events=events,
        volumes=above.volumes,
        system=_system(config, paths, database, below, above, facts, programs(shim, above.init)),
        networks=networks,
        firewall=_firewall(database, events, below, above, backend, overlay.senders),
        trace=_trace(below, above, backend, weave),
        watch=WatchService(below.networks, below.peers, below.links, below.repaired),
        cluster=below.cluster, ovn=below.ovn, weave=weave,
        cni=cni,
    )  # fmt: skip
    docker = build_docker_services(config, database, below, above.recovery)
    restore = partial(_restore, above, sweep_builds, below, weave, cni, docker)
    close = partial(_close, engine, below, above, shim, database, docker)
    metrics = partial(build_sources, below, above, weave, shim.runtime)
    return Daemon(engine, engine_id, above.recovery, above.health, docker, restore, close, metrics)


def _weave(
    below: NetworkServices, above: ContainerServices, networks: NetworksService
) -> tuple[WeaveService, WeaveFindings]:
    weave = build_weave_service(below, networks, above.containers)
    overlay = WeaveFindings(weave, partial(_overlay_ports, below.networks))
    networks.findings.append(overlay.all)
    return weave, overlay


def _overlay_ports(networks: Controller) -> Mapping[str, OverlayPorts]:
    from runtime.network.known_networks import overlay_ports

    return overlay_ports(networks)


def _restore(
    above: ContainerServices,
    sweep_builds: Callable[[], None],
    below: NetworkServices,
    weave: WeaveService,
    cni: CniService,
    docker: DockerServices | None,
) -> None:
    above.recovery.restore()
    cni.recover()
    sweep_builds()
    below.watch()
    weave.start()
    if docker is not None:
        docker.start()


def _close(
    engine: Engine,
    below: NetworkServices,
    above: ContainerServices,
    shim: Shim,
    database: Database,
    docker: DockerServices | None,
) -> None:
    if docker is not None:
        docker.close()
    engine.watch.close()
    engine.weave.close()
    below.close()
    # Its directories, ten for each container with version 1, would stay while any runs.
    if not any(c.state.alive for c in above.store.all()):
        shim.cgroups.remove(CGROUP)
    database.close()


def _system(
    config: DaemonConfig,
    paths: Paths,
    database: Database,
    below: NetworkServices,
    above: ContainerServices,
    facts: Mapping[str, Any],
    programs: Mapping[str, str],
) -> SystemService:
    return SystemService(
        engine_id=below.engine_id,
        root=paths.root,
        labels=config.labels,
        containers=above.containers,
        images=above.images,
        drivers=load_drivers(),
        facts=facts,
        programs=programs,
        debug=config.debug,
        warnings=lambda: map(str, database.left_out()),
    )


def _firewall(
    database: Database,
    events: EventBus,
    below: NetworkServices,
    above: ContainerServices,
    backend: Mapping[str, Any],
    checks: Callable[[], list[str]],
) -> FirewallService:
    networks, everyone = below.networks, _everyone(below, above)

    def make() -> FirewallService:
        from runtime.network.firewall import FirewallService

        return FirewallService(
            networks,
            everyone,
            events,
            policies=networks,
            backend=lambda: dict(backend),
            namespace=everyone.namespace,
            shown=br_netfilter.shown,
            elsewhere=networks.global_networks.remote_endpoints,
            host_of=networks.overlay_members.host_of,
            left_out=database.left_out,
            layouts=layouts(),
            checks=checks,
        )

    return deferred(make)


def _trace(
    below: NetworkServices,
    above: ContainerServices,
    backend: Mapping[str, Any],
    weave: WeaveService,
) -> TraceService:
    everyone = _everyone(below, above)

    def make() -> TraceService:
        from runtime.network.trace import TraceService

        return TraceService(
            below.networks,
            everyone,
            policies=below.networks,
            namespace=everyone.namespace,
            switches=below.host.switches,
            vswitchd=below.host.vswitchd,
            ovn=below.host.ovn,
            backend=lambda: dict(backend),
            overlay=weave.call,
            elsewhere=below.networks.global_networks.remote_endpoints,
            host_of=below.networks.overlay_members.host_of,
            layouts=layouts(),
        )

    return deferred(make)


def _everyone(below: NetworkServices, above: ContainerServices) -> Everyone:
    return Everyone(above.store, below.networks, above.namespace)
