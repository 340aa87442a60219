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
from netkit.network.controller import Networks
from netkit.store import Database
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.daemon import container_defaults
from runtime.daemon.bootstrap_network import Networking
from runtime.daemon.config import DaemonConfig
from runtime.events import EventBus
from runtime.images.store import ImageStore, ImageUser
from runtime.lifecycle.archive import Looking
from runtime.lifecycle.attach import Talking
from runtime.lifecycle.bundle import Bundler, this_host
from runtime.lifecycle.exec import ExecService
from runtime.lifecycle.exit_watcher import Watcher
from runtime.lifecycle.health import HealthChecks
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.link_sync import Relinking
from runtime.lifecycle.log_rotation import Rotation
from runtime.lifecycle.network_connect import Membership
from runtime.lifecycle.operations import Lifecycle
from runtime.lifecycle.recovery import Recovery
from runtime.lifecycle.service import ContainerService
from runtime.lifecycle.supervisor import Runs
from runtime.lifecycle.waiters import Waiters
from runtime.network.container_files import ContainerFiles
from runtime.network.interface_admins import administered
from runtime.network.link_resolver import Links
from runtime.network.sandbox import Sandboxes
from runtime.oci.reaper import Reaper
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.rootfs.mount_refs import Mounted
from runtime.rootfs.overlay import Snapshots
from runtime.system import forwards
from runtime.timers import Timers

CGROUP = "/netkit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Containing:
    store: ContainerStore
    images: ImageStore
    sandboxes: Sandboxes
    containers: ContainerService
    execs: ExecService
    health: HealthChecks
    recovery: Recovery
    init: str  # path of the program that `--init` runs, "" if there is none

    def namespace(self, id: str) -> str:
        """See Sandboxes.namespace."""
        return self.sandboxes.namespace(self.store.find(id))


def containing(
    config: DaemonConfig,
    paths: Paths,
    database: Database,
    below: Networking,
    shim: Shim,
    *,
    events: EventBus,
    loop: asyncio.AbstractEventLoop,
    workers: Executor,
) -> Containing:
    networks = below.networks
    timers = Timers(loop, workers)
    store = ContainerStore(database)
    networks.named = partial(_name, store)
    networks.links.scopes.administered = partial(administered, store)
    images = ImageStore(paths.images, database, partial(_users, store))
    snapshots = Snapshots(paths.snapshots, images)
    mounted = Mounted(snapshots, paths.rootfs)
    links = Links(store, networks)
    bundler = Bundler(paths, store, shim, this_host(shim.cgroups), CGROUP, links.environment)
    sandboxes = _sandboxes(config, paths, below, store, links, events)
    talking = Talking(loop, paths, shim, events)
    launcher = Launcher(
        paths=paths,
        shim=shim,
        snapshots=snapshots,
        mounted=mounted,
        sandboxes=sandboxes,
        bundler=bundler,
        watcher=Watcher(loop, workers),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        before_start=talking.before_start,
        given_up=talking.given_up,
    )
    runs = Runs(store, launcher, Waiters(loop), events, timers)
    execs = ExecService(loop, paths, shim, Reaper(), bundler, store, runs)
    health = HealthChecks(loop, execs.probe, partial(_health_changed, store, runs))
    relinking = Relinking(store, sandboxes, runs)
    _follow(runs, health, execs, relinking, Rotation(paths, shim, store, timers))
    containers = ContainerService(
        store=store,
        images=images,
        lifecycle=Lifecycle(store, launcher, runs),
        runs=runs,
        sandboxes=sandboxes,
        membership=Membership(store, sandboxes, runs, rules=config.iptables, forwards=forwards),
        relinking=relinking,
        talking=talking,
        looking=Looking(shim, bundler, snapshots, mounted, images),
        bundler=bundler,
        defaults=partial(container_defaults.apply, config),
    )
    return Containing(
        store=store,
        images=images,
        sandboxes=sandboxes,
        containers=containers,
        execs=execs,
        health=health,
        recovery=Recovery(store, shim, launcher, sandboxes, runs, networks, below.naming),
        init=bundler.host.init,
    )


def _sandboxes(
    config: DaemonConfig,
    paths: Paths,
    below: Networking,
    store: ContainerStore,
    links: Links,
    events: EventBus,
) -> Sandboxes:
    networks = below.networks
    files = ContainerFiles(
        paths,
        config,
        named=lambda id: _named(networks, id),
        host_gateway=lambda: next(iter(config.host_gateway_ips), _gateway_of_bridge(networks)),
        links=links.hosts,
    )
    below.naming.connect(networks, store, files)
    return Sandboxes(paths, store, networks, networks, files, events, below.naming.settle)


def _follow(
    runs: Runs, health: HealthChecks, execs: ExecService, relinking: Relinking, rotation: Rotation
) -> None:
    """Call these when a container starts and ends, in this order."""
    runs.on_started += [health.begin, rotation.begin, relinking.started]
    runs.on_ended += [rotation.settle, health.end, execs.ended]


def _name(store: ContainerStore, id: str) -> str:
    c = store.get(id)
    return c.name if c else ""


def _users(store: ContainerStore, image: str) -> list[ImageUser]:
    return [ImageUser(c.id, c.name, c.state.alive) for c in store.all() if c.image == image]


def _named(networks: Networks, id: str) -> bool:
    try:
        record = networks.find(id)
    except NotFound:
        return False
    return not record.builtin


def _gateway_of_bridge(networks: Networks) -> str:
    try:
        subnets = networks.find("bridge").spec.subnets
    except NetkitError:
        return ""
    return str(ip_interface(subnets[0].gateway).ip) if subnets and subnets[0].gateway else ""


def _health_changed(store: ContainerStore, runs: Runs, c: Container, status: str) -> None:
    if store.get(c.id) is c:
        # the next result saves it otherwise; the event is sent whether or not the row is saved
        threads.attempt(f"saving the health of container {c.name}", partial(store.save, c))
        if status:
            runs.emit(c, f"health_status: {status}")
