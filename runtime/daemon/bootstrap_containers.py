"""Construct the container side of a daemon: images, root file systems, OCI, life cycle."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_interface
from pathlib import Path

from netkit import threads
from netkit.errors import NetkitError, NotFound
from netkit.network.controller import Controller
from netkit.store import Database
from runtime.build.containers import ContainerParts
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.daemon import container_defaults
from runtime.daemon.bootstrap_network import NetworkServices
from runtime.daemon.config import DaemonConfig
from runtime.events import EventBus
from runtime.images.removal import ImageUser
from runtime.images.store import ImageStore
from runtime.lifecycle.archive import Looking
from runtime.lifecycle.attach import AttachService
from runtime.lifecycle.bundle import BundleBuilder, probe_host
from runtime.lifecycle.commit import Commits
from runtime.lifecycle.exec import ExecService
from runtime.lifecycle.exit_watcher import ExitWatcher
from runtime.lifecycle.health import HealthChecks
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.link_sync import LinkSync
from runtime.lifecycle.log_rotation import LogRotator
from runtime.lifecycle.network_connect import NetworkConnector
from runtime.lifecycle.operations import ContainerOperations
from runtime.lifecycle.recovery import Recovery
from runtime.lifecycle.service import ContainerService
from runtime.lifecycle.staged_mounts import StagedMounts
from runtime.lifecycle.supervisor import Supervisor
from runtime.lifecycle.volumes import ContainerVolumes
from runtime.lifecycle.waiters import Waiters
from runtime.network.container_files import EtcFiles
from runtime.network.interface_admins import administered, administers
from runtime.network.link_resolver import LinkResolver
from runtime.network.sandbox import ContainerNetwork
from runtime.oci.reaper import Reaper
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.rootfs.init_layers import InitLayers
from runtime.rootfs.mount_refs import MountRefs
from runtime.rootfs.overlay import OverlaySnapshots
from runtime.system import forwards
from runtime.timers import Timers
from runtime.volumes.folders import VolumeFolders
from runtime.volumes.mounted import MountedVolumes
from runtime.volumes.service import VolumeService
from runtime.volumes.store import VolumeStore

CGROUP = "/netkit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerServices:
    store: ContainerStore
    images: ImageStore
    volumes: VolumeService
    sandboxes: ContainerNetwork
    containers: ContainerService
    execs: ExecService
    health: HealthChecks
    recovery: Recovery
    parts: ContainerParts  # for builds
    init: str  # path of the program that `--init` runs, "" if there is none

    def states(self) -> list[str]:
        """That of each container, as inspect has it."""
        return [c.state.status for c in self.store.all()]

    def namespace(self, id: str) -> str:
        """See Sandboxes.namespace."""
        return self.sandboxes.namespace(self.store.find(id))


def build_container_services(
    config: DaemonConfig,
    paths: Paths,
    database: Database,
    below: NetworkServices,
    shim: Shim,
    *,
    events: EventBus,
    loop: asyncio.AbstractEventLoop,
    workers: Executor,
) -> ContainerServices:
    networks = below.networks
    timers = Timers(loop, workers)
    store = ContainerStore(database)
    networks.named = partial(_name, store)
    networks.links.scopes.administered = partial(administered, store)
    networks.links.scopes.desired_state.administered = partial(administers, store)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    images = ImageStore(paths.images, database, partial(_users, store), boot_id)
    images.events.emit = partial(events.emit, "image")
    volumes = _volumes(paths, database, events, store)
    shared = InitLayers(paths.init_layers, paths.snapshots)
    snapshots = OverlaySnapshots(paths.snapshots, images, shared)
    mounted = MountRefs(snapshots, paths.rootfs)
    links = LinkResolver(store, networks)
    container_volumes = ContainerVolumes(
        volumes, StagedMounts(snapshots, paths.staged), mounted, images, events
    )
    bundle_builder = BundleBuilder(
        paths,
        store,
        shim,
        probe_host(shim.cgroups),
        CGROUP,
        links.environment,
        container_volumes.source,
    )
    sandboxes = _sandboxes(config, paths, below, store, links, events)
    attach_service = AttachService(loop, paths, shim, events)
    launcher = Launcher(
        paths=paths,
        shim=shim,
        snapshots=snapshots,
        mounted=mounted,
        sandboxes=sandboxes,
        volumes=container_volumes,
        bundle_builder=bundle_builder,
        watcher=ExitWatcher(loop, workers),
        boot_id=boot_id,
        before_start=attach_service.before_start,
        given_up=attach_service.given_up,
    )
    supervisor = Supervisor(store, launcher, Waiters(loop), events, timers)
    execs = ExecService(loop, paths, shim, Reaper(), bundle_builder, store, supervisor)
    health = HealthChecks(loop, execs.probe, partial(_health_changed, store, supervisor))
    relinking = LinkSync(store, sandboxes, supervisor)
    _follow(supervisor, health, execs, relinking, LogRotator(paths, shim, store, timers))
    operations = ContainerOperations(store, launcher, supervisor)
    containers = ContainerService(
        store=store,
        images=images,
        lifecycle=operations,
        supervisor=supervisor,
        sandboxes=sandboxes,
        membership=NetworkConnector(
            store, sandboxes, supervisor, rules=config.iptables, forwards=forwards
        ),
        relinking=relinking,
        attach_service=attach_service,
        looking=Looking(shim, bundle_builder, snapshots, mounted, images, container_volumes),
        commits=Commits(store, images, snapshots, operations, supervisor),
        bundle_builder=bundle_builder,
        volumes=container_volumes,
        defaults=partial(container_defaults.apply, config),
    )
    return ContainerServices(
        store=store,
        images=images,
        volumes=volumes,
        sandboxes=sandboxes,
        containers=containers,
        execs=execs,
        health=health,
        recovery=Recovery(
            store, shim, launcher, sandboxes, supervisor, networks, below.dns_publisher
        ),
        parts=ContainerParts(
            service=containers,
            store=store,
            supervisor=supervisor,
            snapshots=snapshots,
            mounted=mounted,
            loop=loop,
        ),
        init=bundle_builder.host.init,
    )


def _volumes(
    paths: Paths, database: Database, events: EventBus, store: ContainerStore
) -> VolumeService:
    folders = VolumeFolders(paths.volumes)
    mounted = MountedVolumes(folders.data, partial(_mounters, store))
    users = partial(_users_of, store)
    volumes = VolumeService(VolumeStore(database), folders, events, users, mounted)
    volumes.recover()
    return volumes


def _sandboxes(
    config: DaemonConfig,
    paths: Paths,
    below: NetworkServices,
    store: ContainerStore,
    links: LinkResolver,
    events: EventBus,
) -> ContainerNetwork:
    networks = below.networks
    files = EtcFiles(
        paths,
        config,
        named=lambda id: _named(networks, id),
        host_gateway=lambda: next(iter(config.host_gateway_ips), _gateway_of_bridge(networks)),
        links=links.hosts,
    )
    below.dns_publisher.connect(networks, store, files)
    return ContainerNetwork(
        paths, store, networks, networks, files, events, below.dns_publisher.flush
    )


def _follow(
    supervisor: Supervisor,
    health: HealthChecks,
    execs: ExecService,
    relinking: LinkSync,
    rotation: LogRotator,
) -> None:
    """Call these when a container starts and ends, in this order."""
    supervisor.on_started += [health.begin, rotation.begin, relinking.started]
    supervisor.on_ended += [rotation.finish, health.end, execs.ended]


def _name(store: ContainerStore, id: str) -> str:
    c = store.get(id)
    return c.name if c else ""


def _users(store: ContainerStore, image: str) -> list[ImageUser]:
    return [
        ImageUser(c.id, c.name, c.state.alive)
        for c in store.all()
        if c.image == image or any(m.image == image for m in c.mounts)
    ]


def _users_of(store: ContainerStore, volume: str) -> list[str]:
    """Containers that name a volume; those whose rows cannot be read may name any."""
    named = [
        c.id for c in store.all() if any(m.type == "volume" and m.name == volume for m in c.mounts)
    ]
    return [*named, *store.unreadable]


def _mounters(store: ContainerStore, volume: str) -> list[str]:
    """Of those containers, the ones that have it mounted or are about to."""
    users = map(store.get, _users_of(store, volume))
    return [c.id for c in users if c and (c.state.alive or c.extra.get("pending"))]


def _named(networks: Controller, id: str) -> bool:
    try:
        record = networks.find(id)
    except NotFound:
        return False
    return not record.builtin


def _gateway_of_bridge(networks: Controller) -> str:
    try:
        subnets = networks.find("bridge").spec.subnets
    except NetkitError:
        return ""
    return str(ip_interface(subnets[0].gateway).ip) if subnets and subnets[0].gateway else ""


def _health_changed(
    store: ContainerStore, supervisor: Supervisor, c: Container, status: str
) -> None:
    if store.get(c.id) is c:
        # the next result saves it otherwise; the event is sent whether or not the row is saved
        threads.attempt(f"saving the health of container {c.name}", partial(store.save, c))
        if status:
            supervisor.emit(c, f"health_status: {status}")
