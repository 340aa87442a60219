"""The parts of a daemon, constructed and connected."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from netkit.cluster.client import Client
from netkit.cluster.remotes import parse as parse_remotes
from netkit.cluster.servers import LocalServer
from netkit.converge import ownership
from netkit.errors import KernelError, NetkitError, NotFound
from netkit.guard import Guard
from netkit.kernel import bridgefilter
from netkit.kernel.dhcpwire import HostDhcp
from netkit.kernel.host import Host
from netkit.kernel.ovsdb import Ovsdb
from netkit.kernel.ovswatch import OvsRepairs, OvsWatch
from netkit.kernel.rulewatch import RuleWatch
from netkit.kernel.segments import HostSegments
from netkit.kernel.worker import Worker
from netkit.leases import Leases
from netkit.networks import Networks
from netkit.spec import NetworkRecord, Sandbox
from netkit.store import Database
from runtime.clustering import EngineCluster
from runtime.config import DaemonConfig
from runtime.containers import linking
from runtime.containers.bundle import Bundler, this_host
from runtime.containers.execs import ExecService
from runtime.containers.files import ContainerFiles
from runtime.containers.health import HealthChecks
from runtime.containers.launch import Launcher
from runtime.containers.lifecycle import Lifecycle
from runtime.containers.looking import Looking
from runtime.containers.model import Container
from runtime.containers.naming import Naming
from runtime.containers.rotation import Rotation
from runtime.containers.service import ContainerService
from runtime.containers.store import ContainerStore
from runtime.containers.talking import Talking
from runtime.containers.waiting import Waiters
from runtime.containers.watch import Watcher
from runtime.events import EventBus
from runtime.firewall import EngineFirewall
from runtime.firewalling import chosen
from runtime.images.store import ImageStore
from runtime.networks import EngineNetworks
from runtime.oci.cgroups import Cgroups
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.rootfs.mounted import Mounted
from runtime.rootfs.snapshots import Snapshots
from runtime.survey import boot_time, drivers, occupied, settings
from runtime.system import SystemService
from runtime.timers import Timers
from runtime.trace import EngineTrace

# Chains of single endpoints: their names go on with an id in hexadecimal digits, Docker's own with
# capitals.
ENDPOINT_CHAINS = tuple(f"DOCKER-{digit}" for digit in "0123456789abcdef")

CGROUP = "/netkit"
_META = ["CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"]


@dataclass(slots=True)
class Engine:
    """Implements ports.Engine."""

    containers: ContainerService
    execs: ExecService
    images: ImageStore
    events: EventBus
    system: SystemService
    networks: EngineNetworks
    firewall: EngineFirewall
    trace: EngineTrace
    cluster: EngineCluster


@dataclass(frozen=True, slots=True)
class Parts:
    engine: Engine
    engine_id: str
    lifecycle: Lifecycle
    health: HealthChecks
    restore: Callable[[], None]
    close: Callable[[], None]


def assemble(
    wishes: DaemonConfig, paths: Paths, loop: asyncio.AbstractEventLoop, workers: Executor
) -> Parts:
    database = Database(paths.database)
    engine_id = _identity(database)
    events = EventBus(loop)
    timers = Timers(loop, workers)
    waiters = Waiters(loop)
    store = ContainerStore(database)
    images = ImageStore(paths.images, database, partial(_users, store))

    cgroups = Cgroups.probe()
    shim = Shim(paths.run, cgroups, runtime=wishes.runtime)
    snapshots = Snapshots(paths.snapshots, images)
    mounted = Mounted(snapshots, paths.rootfs)
    bundler = Bundler(paths, store, shim, this_host(cgroups), CGROUP)

    wall = chosen(wishes.firewall_backend, enabled=wishes.iptables)
    ovs = Ovsdb(wishes.ovs_db)
    host = Host(
        namespaces=str(paths.netns),
        variant=wall.variant or "nft",  # which is looked at without any tool
        chains=ENDPOINT_CHAINS,
        owner=f"netkit:{engine_id}:chains",
        standby=True,
        ovs=ovs,
        handovers=str(paths.run / "handovers"),
    )
    worker = Worker(host, ownership(engine_id, str(paths.netns)))
    naming = Naming(paths)
    leases = Leases(database, HostDhcp(boot_time), now=boot_time, random=secrets.randbits)
    client = Client(engine_id)
    networks = Networks(
        database,
        worker,
        drivers(),
        wall.firewall,
        engine=engine_id,
        settings=settings(wishes),
        before_sweep=lambda: wall.tidy(f"netkit:{engine_id}:"),
        names=naming,
        occupied=occupied,
        segments=HostSegments(),
        leases=leases,
        cluster=client,
    )
    cluster = EngineCluster(
        engine_id,
        client,
        LocalServer(paths.root / "cluster", paths.run / "cluster"),
        networks.sharing,
        elsewhere=parse_remotes(wishes.cluster) if wishes.cluster else "",
        advertise=wishes.cluster_advertise,
    )
    linked = partial(_linked, store, networks)
    bundler.link_environment = lambda c: [
        line for found in linked(c) for line in linking.environment(c.name, *found)
    ]
    files = ContainerFiles(
        paths,
        wishes,
        named=lambda id: _named(networks, id),
        host_gateway=lambda: _gateway_of_bridge(networks),
        links=lambda c: [linking.hosts_line(*found) for found in linked(c)],
    )
    watcher = Watcher(loop, workers)
    launcher = Launcher(
        paths=paths,
        store=store,
        shim=shim,
        snapshots=snapshots,
        mounted=mounted,
        networks=networks,
        bundler=bundler,
        files=files,
        watcher=watcher,
        events=events,
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    )
    lifecycle = Lifecycle(store, launcher, waiters, events, timers)
    talking = Talking(loop, paths, shim, events)
    launcher.before_start = talking.before_start
    launcher.given_up = talking.given_up
    launcher.settle_names = naming.settle
    looking = Looking(shim, bundler, snapshots, mounted, images)
    execs = ExecService(loop, paths, shim, bundler, lifecycle)
    health = HealthChecks(loop, execs.probe, partial(_health_changed, store, lifecycle))
    rotation = Rotation(paths, shim, store, timers)
    naming.connect(networks, store, files)
    lifecycle.on_started.append(health.begin)
    lifecycle.on_started.append(rotation.begin)
    lifecycle.on_started.append(partial(_tell_parents, store, launcher))
    lifecycle.on_ended.append(rotation.settle)
    lifecycle.on_ended.append(health.end)
    lifecycle.on_ended.append(execs.ended)

    containers = ContainerService(store, images, lifecycle, launcher, talking, looking, bundler)
    facts = _facts(shim, cgroups)
    facts["FirewallBackend"] = wall.info(host)
    facts["Warnings"] = [f"WARNING: {wall.warning}"] if wall.warning else []
    system = SystemService(
        engine_id=engine_id,
        root=paths.root,
        labels=wishes.labels,
        containers=containers,
        images=images,
        drivers=drivers(),
        facts=facts,
        debug=wishes.debug,
    )

    guard = Guard(networks, RuleWatch("", legacy=wall.variant == "legacy"))

    ovs_guard = Guard(OvsRepairs(networks, host, ovs), OvsWatch(ovs, host.vswitchd), "Open vSwitch")

    def restore() -> None:
        _restore(store, shim, launcher, lifecycle, networks, naming)
        if wall.backend is not None:
            guard.start()
        ovs_guard.start()
        cluster.start()

    def close() -> None:
        guard.close()
        ovs_guard.close()
        cluster.close()
        naming.close()
        leases.close()
        worker.close()
        host.close()
        ovs.close()
        cgroups.remove(CGROUP)
        database.close()

    def peers(record: NetworkRecord) -> list[dict[str, str]]:
        if record.spec.driver != "ovs":
            return []
        with suppress(KernelError):  # a look at a network does not depend on Open vSwitch
            found = host.switches.tunnels(f"netkit:{engine_id}:{record.id[:12]}")
            return [{"Name": t.name, "IP": t.remote, "State": t.state} for t in found]
        return []

    firewall = EngineFirewall(
        networks,
        store,
        events,
        backend=lambda: dict(facts["FirewallBackend"]),
        namespace=lambda id: launcher.namespace(store.find(id)),
        shown=bridgefilter.shown,
    )
    tracing = EngineTrace(
        networks,
        store,
        namespace=lambda id: launcher.namespace(store.find(id)),
        switches=host.switches,
        vswitchd=host.vswitchd,
    )
    seen = EngineNetworks(networks, events, peers)
    engine = Engine(containers, execs, images, events, system, seen, firewall, tracing, cluster)
    return Parts(engine, engine_id, lifecycle, health, restore, close)


def _restore(
    store: ContainerStore,
    shim: Shim,
    launcher: Launcher,
    lifecycle: Lifecycle,
    networks: Networks,
    naming: Naming,
) -> None:
    """What ran on goes on; what was half done is finished or undone; the rest is swept."""
    known = shim.known()
    live: dict[str, Sandbox] = {}
    for c in store.all():
        running = known.get(c.id)
        if running is None or not c.state.alive or c.extra.get("pending"):
            continue
        if running.init.pid != c.state.pid or c.host_config.network_mode.startswith("container:"):
            continue
        live[c.id] = launcher.sandbox(c)
    networks.restore(live)
    naming.restore(live)
    lifecycle.restore({id: r.init.pid for id, r in known.items()})


def _identity(database: Database) -> str:
    """The engine's id: made once, and the middle of every mark in the kernel."""
    database.ensure("meta", _META)
    rows = database.rows("SELECT value FROM meta WHERE key='engine'")
    if rows:
        return str(rows[0]["value"])
    fresh = secrets.token_hex(6)
    database.execute("INSERT INTO meta VALUES ('engine', ?)", (fresh,))
    return fresh


def _users(store: ContainerStore, image: str) -> list[tuple[str, str, bool]]:
    return [(c.id, c.name, c.state.alive) for c in store.all() if c.image == image]


def _linked(
    store: ContainerStore, networks: Networks, c: Container
) -> list[tuple[str, Container, str]]:
    """(alias, child, its address) of those children that run."""
    found = []
    for alias, id in linking.of(c).items():
        child = store.get(id)
        if child is None:
            continue
        ip = linking.address(networks.endpoints(sandbox=id), networks.find("bridge"))
        if ip:
            found.append((alias, child, ip))
    return found


def _tell_parents(store: ContainerStore, launcher: Launcher, child: Container) -> None:
    """It may have another address than when they heard of it."""
    for parent in store.all():
        if child.id in linking.of(parent).values():
            launcher.relinked(parent)


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


def _health_changed(store: ContainerStore, lifecycle: Lifecycle, c: Container, status: str) -> None:
    if store.get(c.id) is c:
        store.save(c)
        if status:
            lifecycle.emit(c, f"health_status: {status}")


def _facts(shim: Shim, cgroups: Cgroups) -> dict[str, Any]:
    name = Path(shim.runtime).name
    return {
        "CgroupVersion": str(cgroups.version),
        "Runtimes": {name: {"path": shim.runtime}},
        "DefaultRuntime": name,
    }
