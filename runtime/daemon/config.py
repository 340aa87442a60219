"""The daemon's configuration as a value; runtime.daemon.config_load reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from netkit.cluster.remotes import parse as parse_remotes
from netkit.cluster.tls import Certificates
from netkit.driver import OvnFacts

DOCKER_PLUGINS = Path("/run/docker/plugins")


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """Everything the daemon can be configured with; runtime.daemon.flags has the flags."""

    root: Path = Path("/var/lib/netkit")
    run: Path = Path("/run/netkit")
    hosts: tuple[str, ...] = ()
    group: str = "netkit"
    labels: tuple[str, ...] = ()
    pidfile: str = ""
    debug: bool = False
    log_level: str = "info"
    runtime: str = "auto"
    # TLS on tcp:// listeners
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    insecure_tcp: bool = False
    metrics_addr: str = ""  # HOST:PORT of the listener for Prometheus; "": none
    insecure_metrics: bool = False
    # the default network
    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    default_gateway: str = ""
    mtu: int = 0
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_forward: bool = True
    ip_masq: bool = True
    iptables: bool = True
    userland_proxy: bool = False
    firewall_backend: str = "auto"
    ovs_db: str = "unix:/run/openvswitch/db.sock"
    ovn_nb: str = ""
    ovn_sb: str = ""
    ovn_encap_ip: str = ""
    cluster: str = ""
    cluster_advertise: str = ""
    cluster_tls_ca: Path | None = None
    cluster_tls_cert: Path | None = None
    cluster_tls_key: Path | None = None
    containers: bool = True  # False: only networks, for other engines
    docker_plugin: str = ""  # "true", or a folder
    docker_api: str = "unix:///run/docker.sock"
    default_address_pools: tuple[tuple[str, int], ...] = ()
    default_network_opts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # for all containers
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    init: bool = False
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    shm_size: int = 0  # bytes; 0: 64 MiB
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # soft, hard
    ipc_mode: str = ""
    cgroupns_mode: str = ""
    cgroup_parent: str = ""
    no_new_privileges: bool = False
    # registries
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    folder: Path = Path("/etc/netkit")  # of the configuration file: certs.d and config.json, too
    warnings: tuple[str, ...] = ()  # what was given and has no effect

    @property
    def plugin_folder(self) -> Path | None:
        """Where dockerd looks for sockets of plugins; None: there are none."""
        if not self.docker_plugin:
            return None
        return DOCKER_PLUGINS if self.docker_plugin == "true" else Path(self.docker_plugin)

    @property
    def default_bridge(self) -> str:
        """The bridge of the default network, "none" where nothing is to be on it."""
        return self.bridge or ("" if self.containers else "none")

    @property
    def cluster_servers(self) -> str:
        """External servers of --cluster, in the syntax of Open vSwitch; "" for none."""
        tls = self.certificates is not None
        return parse_remotes(self.cluster, tls=tls) if self.cluster else ""

    @property
    def ovn(self) -> OvnFacts:
        """The OVN that this host is to be a chassis of."""
        return OvnFacts(
            northbound=self.ovn_nb,
            southbound=self.ovn_sb,
            encap_ip=IPv4Address(self.ovn_encap_ip) if self.ovn_encap_ip else None,
        )

    @property
    def certificates(self) -> Certificates | None:
        """TLS files of the cluster; None without TLS."""
        ca, cert, key = self.cluster_tls_ca, self.cluster_tls_cert, self.cluster_tls_key
        return Certificates(ca=ca, cert=cert, key=key) if ca and cert and key else None

    @property
    def listeners(self) -> tuple[str, ...]:
        if self.hosts:
            return self.hosts
        return (f"unix://{self.run / 'netkit.sock'}",)
