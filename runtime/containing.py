"""The containers of a daemon, constructed: images, root file systems, processes and their lives."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_interface
from pathlib import Path

from netkit.errors import NetkitError, NotFound
from netkit.networks import Networks
from netkit.store import Database
from runtime.config import DaemonConfig
from runtime.containers import defaults
from runtime.containers.bundle import Bundler, this_host
from runtime.containers.execs import ExecService
from runtime.containers.files import ContainerFiles
from runtime.containers.health import HealthChecks
from runtime.containers.launch import Launcher
from runtime.containers.lifecycle import Lifecycle
from runtime.containers.links import Links
from runtime.containers.looking import Looking
from runtime.containers.membership import Membership
from runtime.containers.model import Container
from runtime.containers.recovery import Recovery
from runtime.containers.relinking import Relinking
from runtime.containers.rotation import Rotation
from runtime.containers.runs import Runs
from runtime.containers.sandboxes import Sandboxes
from runtime.containers.service import ContainerService
from runtime.containers.store import ContainerStore
from runtime.containers.talking import Talking
from runtime.containers.waiting import Waiters
from runtime.containers.watch import Watcher
from runtime.events import EventBus
from runtime.images.store import ImageStore
from runtime.networking import Networking
from runtime.oci.reaper import Reaper
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.rootfs.mounted import Mounted
from runtime.rootfs.snapshots import Snapshots
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
    wishes: DaemonConfig,
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
    images = ImageStore(paths.images, database, partial(_users, store))
    snapshots = Snapshots(paths.snapshots, images)
    mounted = Mounted(snapshots, paths.rootfs)
    links = Links(store, networks)
    bundler = Bundler(paths, store, shim, this_host(shim.cgroups), CGROUP, links.environment)
    files = ContainerFiles(
        paths,
        wishes,
        named=lambda id: _named(networks, id),
        host_gateway=lambda: next(iter(wishes.host_gateway_ips), _gateway_of_bridge(networks)),
        links=links.hosts,
    )
    below.naming.connect(networks, store, files)
    sandboxes = Sandboxes(paths, store, networks, files, events, below.naming.settle)
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
    rotation = Rotation(paths, shim, store, timers)
    relinking = Relinking(store, sandboxes, runs)
    runs.on_started += [health.begin, rotation.begin, relinking.started]
    runs.on_ended += [rotation.settle, health.end, execs.ended]
    containers = ContainerService(
        store=store,
        images=images,
        lifecycle=Lifecycle(store, launcher, runs),
        runs=runs,
        sandboxes=sandboxes,
        membership=Membership(store, sandboxes, runs, rules=wishes.iptables, forwards=forwards),
        relinking=relinking,
        talking=talking,
        looking=Looking(shim, bundler, snapshots, mounted, images),
        bundler=bundler,
        defaults=partial(defaults.apply, wishes),
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


def _name(store: ContainerStore, id: str) -> str:
    c = store.get(id)
    return c.name if c else ""


def _users(store: ContainerStore, image: str) -> list[tuple[str, str, bool]]:
    return [(c.id, c.name, c.state.alive) for c in store.all() if c.image == image]


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
        store.save(c)
        if status:
            runs.emit(c, f"health_status: {status}")
