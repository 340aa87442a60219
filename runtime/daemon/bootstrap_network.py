"""Construct the network side of a daemon: kernel, rows, drivers, firewall, names, cluster."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from netkit.cluster.client import Client
from netkit.cluster.ovn import OvnServers
from netkit.cluster.servers import LocalServer
from netkit.errors import KernelError
from netkit.ipam.dhcp_leases import DhcpLeases
from netkit.kernel import port_holders
from netkit.kernel.firewall.watch import RuleWatch
from netkit.kernel.host import Host
from netkit.kernel.netlink.counters import CountedLink, counted_links
from netkit.kernel.netlink.observe import ipv4_of, marked_links, port_mtus
from netkit.kernel.netlink.watch import LinkWatch
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.watch import OvsWatch
from netkit.kernel.segment.dhcp_transport import HostDhcp
from netkit.kernel.segment.prober import HostSegments
from netkit.model import HOST
from netkit.network.controller import Controller
from netkit.network.link_interest import LinkInterest
from netkit.network.link_resync import LinkResync, Reporting
from netkit.overlay.folders import Folders
from netkit.overlay.service import Service
from netkit.portallocator import PortAllocator
from netkit.reconcile.converge import ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.reconcile.resync import ResyncLoop
from netkit.spec import NetworkRecord
from netkit.store import Database
from runtime.daemon.config import DaemonConfig
from runtime.daemon.discovery import boot_time, load_drivers, network_config, occupied_subnets
from runtime.daemon.firewall_backend import FirewallBackend, layouts, select
from runtime.daemon.ovs_resync import OvsRepairs
from runtime.network.cluster import ClusterService
from runtime.network.name_publisher import DnsPublisher
from runtime.network.ovn import OvnService
from runtime.network.weave.addresses import AllocatedAddresses
from runtime.paths import Paths


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkServices:
    engine_id: str
    firewall: FirewallBackend
    ovs: Ovsdb
    host: Host
    worker: ReconcileQueue
    dns_publisher: DnsPublisher
    leases: DhcpLeases
    networks: Controller
    cluster: ClusterService
    ovn: OvnService
    overlay_addresses: AllocatedAddresses
    guard: ResyncLoop
    ovs_guard: ResyncLoop
    link_guard: ResyncLoop

    def watch(self) -> None:
        """Begin to watch for changes by other tools; call it after everything was restored."""
        for name, guard in self.guards.items():
            if name != "firewall" or self.firewall.backend is not None:
                guard.start()
        self.cluster.start()
        self.ovn.start()

    def close(self) -> None:
        # What uses the worker and the host is closed before them.
        for guard in self.guards.values():
            guard.close()
        self.cluster.close()
        self.ovn.close()
        self.dns_publisher.close()
        self.leases.close()
        self.worker.close()
        self.host.close()
        self.ovs.close()

    @property
    def guards(self) -> dict[str, ResyncLoop]:
        """By what each looks after."""
        return {
            "firewall": self.guard, "openvswitch": self.ovs_guard, "links": self.link_guard,
        }  # fmt: skip

    def repaired(self) -> dict[str, int]:
        """How often drift was repaired since the start, by what is looked after."""
        return {name: sum(g.drift.counts().repaired.values()) for name, g in self.guards.items()}

    def links(self) -> list[CountedLink]:
        """All of this engine, with what they have counted.  KernelError."""
        return counted_links(HOST, f"netkit:{self.engine_id}:")

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        """See ports.Networks."""
        traits = self.networks.traits(record)
        if traits.overlay:
            hosts = self.networks.overlay_members.hosts(record.id)
            return [{"Name": host.name, "IP": host.address} for host in hosts]
        if not traits.openvswitch:
            return []
        with suppress(KernelError):  # `network inspect` works without Open vSwitch
            mark = f"netkit:{self.engine_id}:{record.id[:12]}"
            tunnels = self.host.switches.tunnels(mark)
            found = [{"Name": t.name, "IP": t.remote, "State": t.state} for t in tunnels]
            others = self.host.ovn_peers.of_network(mark)
            return found + [{"Name": p.name, "IP": p.address, "State": p.state} for p in others]
        return []


def build_network_services(
    config: DaemonConfig, paths: Paths, database: Database, engine_id: str
) -> NetworkServices:
    firewall_backend = select(config.firewall_backend, enabled=config.iptables)
    ovs = Ovsdb(config.ovs_db)
    host = _host(paths, engine_id, firewall_backend, ovs)
    interest = LinkInterest()
    mine = ownership(engine_id, str(paths.netns))
    worker = ReconcileQueue(Reporting(host, interest), mine, host.ready)
    dns_publisher = DnsPublisher(paths)
    leases = DhcpLeases(database, HostDhcp(boot_time), now=boot_time, random=secrets.randbits)
    client = Client(engine_id, config.certificates)
    addresses = AllocatedAddresses(Service(Folders(paths.root / "weave", paths.run / "weave")))
    networks = Controller(
        database, worker, load_drivers(ovn=config.ovn), firewall_backend.firewall,
        engine=engine_id,
        settings=network_config(config),
        before_sweep=lambda: firewall_backend.remove_other_backends(f"netkit:{engine_id}:"),
        ports=PortAllocator(foreign=port_holders.holder), occupied=occupied_subnets,
        segments=HostSegments(), names=dns_publisher, leases=leases, cluster=client,
        overlay_addresses=addresses,
    )  # fmt: skip
    switches = OvsWatch(ovs, host.vswitchd)
    host.ovn.changed = switches.hint
    return NetworkServices(
        engine_id=engine_id,
        firewall=firewall_backend,
        ovs=ovs,
        host=host,
        worker=worker,
        dns_publisher=dns_publisher,
        leases=leases,
        networks=networks,
        cluster=_cluster(config, paths, engine_id, client, networks),
        ovn=_ovn(config, paths),
        overlay_addresses=addresses,
        guard=_rule_guard(networks, firewall_backend, host),
        ovs_guard=ResyncLoop(OvsRepairs(networks, host, ovs), switches, "Open vSwitch"),
        link_guard=_link_guard(networks, firewall_backend, interest, switches, engine_id),
    )


def _ovn(config: DaemonConfig, paths: Paths) -> OvnService:
    servers = OvnServers(paths.root / "ovn", paths.run / "ovn", config.certificates)
    return OvnService(servers, tls=config.certificates is not None)


def _host(paths: Paths, engine_id: str, firewall_backend: FirewallBackend, ovs: Ovsdb) -> Host:
    return Host(
        namespaces=str(paths.netns),
        variant=firewall_backend.variant or "nft",  # which is looked at without any tool
        chains=tuple(t for layout in layouts() for t in layout.territory.trees),
        owner=f"netkit:{engine_id}:chains",
        territory=firewall_backend.firewall.layout.territory,
        port_maps={m for layout in layouts() for m in layout.port_maps},
        standby=True,
        direct=firewall_backend.direct,
        ovs=ovs,
        engine=engine_id,
        handovers=str(paths.run / "handovers"),
    )


def _cluster(
    config: DaemonConfig, paths: Paths, engine_id: str, client: Client, networks: Controller
) -> ClusterService:
    return ClusterService(
        engine_id,
        client,
        LocalServer(paths.root / "cluster", paths.run / "cluster", config.certificates),
        networks.global_networks,
        elsewhere=config.cluster_servers,
        advertise=config.cluster_advertise,
        certificates=config.certificates,
    )


def _rule_guard(networks: Controller, firewall_backend: FirewallBackend, host: Host) -> ResyncLoop:
    legacy = firewall_backend.variant == "legacy"
    return ResyncLoop(networks, RuleWatch("", legacy=legacy, commits=lambda: host.tools.commits))


def _link_guard(
    networks: Controller,
    firewall_backend: FirewallBackend,
    interest: LinkInterest,
    switches: OvsWatch,
    engine_id: str,
) -> ResyncLoop:
    networks.links.addresses_of = partial(ipv4_of, HOST)
    networks.links.port_mtus = partial(port_mtus, HOST)
    networks.links.marked_links = partial(marked_links, HOST)
    links = LinkResync(
        networks.links,
        interest,
        LinkWatch(HOST, f"netkit:{engine_id}:", interest),
        firewall=networks.repair if firewall_backend.backend is not None else None,
        beside=switches.hint,
    )
    return ResyncLoop(links, links, "a network's interface", drift=links.statistics)
