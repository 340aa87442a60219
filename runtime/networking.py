"""The networks of a daemon, constructed: kernel, rows, drivers, firewall, names, cluster."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass

from netkit.cluster.client import Client
from netkit.cluster.servers import LocalServer
from netkit.converge import ownership
from netkit.errors import KernelError
from netkit.guard import Guard
from netkit.kernel import portholders
from netkit.kernel.dhcpwire import HostDhcp
from netkit.kernel.host import Host
from netkit.kernel.ovsdb import Ovsdb
from netkit.kernel.ovswatch import OvsRepairs, OvsWatch
from netkit.kernel.rulewatch import RuleWatch
from netkit.kernel.segments import HostSegments
from netkit.kernel.strays import Territory
from netkit.kernel.worker import Worker
from netkit.leases import Leases
from netkit.networks import Networks
from netkit.ports import HostPorts
from netkit.spec import NetworkRecord
from netkit.store import Database
from runtime.clustering import EngineCluster
from runtime.config import DaemonConfig
from runtime.containers.naming import Naming
from runtime.firewalling import ENDPOINT_CHAINS, TERRITORY, Firewalling, chosen
from runtime.paths import Paths
from runtime.survey import boot_time, drivers, occupied, settings

# Chains of single endpoints: their names go on with an id in hexadecimal digits, Docker's own with
# capitals.


@dataclass(frozen=True, slots=True, kw_only=True)
class Networking:
    engine_id: str
    wall: Firewalling
    ovs: Ovsdb
    host: Host
    worker: Worker
    naming: Naming
    leases: Leases
    networks: Networks
    cluster: EngineCluster
    guard: Guard
    ovs_guard: Guard

    def watch(self) -> None:
        """From now on what others change is noticed; after everything has been restored."""
        if self.wall.backend is not None:
            self.guard.start()
        self.ovs_guard.start()
        self.cluster.start()

    def close(self) -> None:
        self.guard.close()
        self.ovs_guard.close()
        self.cluster.close()
        self.naming.close()
        self.leases.close()
        self.worker.close()
        self.host.close()
        self.ovs.close()

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        """See ports.Networks."""
        if record.spec.driver != "ovs":
            return []
        with suppress(KernelError):  # a look at a network does not depend on Open vSwitch
            found = self.host.switches.tunnels(f"netkit:{self.engine_id}:{record.id[:12]}")
            return [{"Name": t.name, "IP": t.remote, "State": t.state} for t in found]
        return []


def networking(
    wishes: DaemonConfig, paths: Paths, database: Database, engine_id: str
) -> Networking:
    wall = chosen(wishes.firewall_backend, enabled=wishes.iptables)
    ovs = Ovsdb(wishes.ovs_db)
    host = Host(
        namespaces=str(paths.netns),
        variant=wall.variant or "nft",  # which is looked at without any tool
        chains=ENDPOINT_CHAINS,
        owner=f"netkit:{engine_id}:chains",
        territory=TERRITORY if wall.variant else Territory(),
        standby=True,
        ovs=ovs,
        handovers=str(paths.run / "handovers"),
    )
    worker = Worker(host, ownership(engine_id, str(paths.netns)))
    naming = Naming(paths)
    leases = Leases(database, HostDhcp(boot_time), now=boot_time, random=secrets.randbits)
    client = Client(engine_id, wishes.certificates)
    networks = Networks(
        database,
        worker,
        drivers(),
        wall.firewall,
        engine=engine_id,
        settings=settings(wishes),
        before_sweep=lambda: wall.tidy(f"netkit:{engine_id}:"),
        names=naming,
        ports=HostPorts(foreign=portholders.holder),
        occupied=occupied,
        segments=HostSegments(),
        leases=leases,
        cluster=client,
    )
    cluster = EngineCluster(
        engine_id,
        client,
        LocalServer(paths.root / "cluster", paths.run / "cluster", wishes.certificates),
        networks.sharing,
        elsewhere=wishes.cluster_servers,
        advertise=wishes.cluster_advertise,
        certificates=wishes.certificates,
    )
    return Networking(
        engine_id=engine_id,
        wall=wall,
        ovs=ovs,
        host=host,
        worker=worker,
        naming=naming,
        leases=leases,
        networks=networks,
        cluster=cluster,
        guard=Guard(networks, RuleWatch("", legacy=wall.variant == "legacy")),
        ovs_guard=Guard(
            OvsRepairs(networks, host, ovs), OvsWatch(ovs, host.vswitchd), "Open vSwitch"
        ),
    )
