"""Validate the daemon's configuration.  Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_interface, ip_network

from netkit.cluster.remotes import parse as parse_remotes
from netkit.cluster.tls import FLAGS as CLUSTER_TLS
from netkit.driver import ovsdb_remotes
from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig, LogConfig, Ulimit
from runtime.container.log_options import check_log
from runtime.daemon.config import DaemonConfig
from runtime.metrics.address import check as metrics_address
from runtime.oci.ulimits import check_values

FIREWALL_BACKENDS = ("auto", "iptables", "iptables-nft", "iptables-legacy", "nftables")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")  # and Docker's trace and panic
LOG_DRIVERS = ("json-file", "local", "none")


def checked(c: DaemonConfig) -> DaemonConfig:
    """Return `c`; InvalidSpec names the invalid flag, the reason and the remedy."""
    checks = (
        _labels, _addresses, _bridge, _kernel, _ovn, _cluster, _tls, _metrics, _logging,
        _registries, _defaults,
    )  # fmt: skip
    for check in checks:
        check(c)
    return c


def _labels(c: DaemonConfig) -> None:
    for label in c.labels:
        if "=" not in label or label.startswith("="):
            raise InvalidSpec(f"bad attribute format: {label}: give --label KEY=VALUE")


def _addresses(c: DaemonConfig) -> None:
    for name, text, read in (
        ("bip", c.bip, IPv4Interface),
        ("fixed-cidr", c.fixed_cidr, ip_network),
        ("default-gateway", c.default_gateway, ip_address),
        ("ip", c.ip, ip_address),
        ("cluster-advertise", c.cluster_advertise, IPv4Address),
    ):
        try:
            text and read(text)
        except ValueError as e:
            raise InvalidSpec(f"--{name} {text}: {e}") from None
    for server in c.dns:
        try:
            ip_address(server)
        except ValueError:
            raise InvalidSpec(f"--dns {server} is not an ip address") from None


def _bridge(c: DaemonConfig) -> None:
    """Check the default bridge; its addresses were parsed before."""
    if c.bip and "/" not in c.bip:
        raise InvalidSpec(f"--bip {c.bip}: give the prefix length too, e.g. {c.bip}/16")
    if c.bip and c.bridge:
        raise InvalidSpec(
            "You specified -b & --bip, mutually exclusive options. Please specify only one"
        )
    if c.bip and c.default_gateway:
        net = ip_interface(c.bip).network
        if ip_address(c.default_gateway) not in net:
            raise InvalidSpec(f"--default-gateway {c.default_gateway} is not in {net} (--bip)")
    if c.mtu and not 68 <= c.mtu <= 65535:
        raise InvalidSpec(f"--mtu {c.mtu}: between 68 and 65535 bytes")


def _kernel(c: DaemonConfig) -> None:
    """Check the firewall back end and the socket of Open vSwitch."""
    if c.firewall_backend not in FIREWALL_BACKENDS:
        raise InvalidSpec(
            f"--firewall-backend {c.firewall_backend}: use {', '.join(FIREWALL_BACKENDS)}"
        )
    if not c.ovs_db.startswith("unix:/"):
        raise InvalidSpec(f"--ovs-db {c.ovs_db}: use unix:/PATH, the socket of this host's own")


def _ovn(c: DaemonConfig) -> None:
    for flag, text in (("--ovn-nb", c.ovn_nb), ("--ovn-sb", c.ovn_sb)):
        try:
            _ = text and ovsdb_remotes(text)
        except ValueError as error:
            raise InvalidSpec(f"{flag} {text}: {error}") from None
    if bool(c.ovn_sb) != bool(c.ovn_encap_ip):
        raise InvalidSpec("--ovn-sb and --ovn-encap-ip make this host a chassis: give both")
    if c.ovn_encap_ip:
        try:
            end = IPv4Address(c.ovn_encap_ip)
        except ValueError:
            raise InvalidSpec(f"--ovn-encap-ip {c.ovn_encap_ip} is not an IPv4 address") from None
        if end.is_unspecified or end.is_multicast or end.is_loopback:
            raise InvalidSpec(f"--ovn-encap-ip {end} is no address that other hosts reach")


def _cluster(c: DaemonConfig) -> None:
    files = (c.cluster_tls_ca, c.cluster_tls_cert, c.cluster_tls_key)
    absent = [flag for flag, file in zip(CLUSTER_TLS, files, strict=True) if not file]
    if 0 < len(absent) < len(files):
        raise InvalidSpec(f"{', '.join(CLUSTER_TLS)}: give all of them; {absent[0]} is missing")
    if c.cluster:
        parse_remotes(c.cluster, tls=not absent)


def _tls(c: DaemonConfig) -> None:
    """Check the files for listeners of the API."""
    if (c.tlsverify or c.tls) and not (c.tlscert and c.tlskey):
        raise InvalidSpec("--tls and --tlsverify need --tlscert and --tlskey")
    if c.tlsverify and not c.tlscacert:
        raise InvalidSpec("--tlsverify needs --tlscacert")


def _metrics(c: DaemonConfig) -> None:
    metrics_address(c.metrics_addr, insecure=c.insecure_metrics)


def _logging(c: DaemonConfig) -> None:
    if c.log_level.lower() not in {*LOG_LEVELS, "trace", "panic"}:
        raise InvalidSpec(f"invalid logging level: {c.log_level}: use {', '.join(LOG_LEVELS)}")
    if c.log_driver not in LOG_DRIVERS:
        raise InvalidSpec(
            f"logger: no log driver named '{c.log_driver}' is registered; use "
            f"{', '.join(LOG_DRIVERS)}"
        )
    check_log(HostConfig(log_config=LogConfig(type=c.log_driver, config=dict(c.log_opts))))


def _registries(c: DaemonConfig) -> None:
    for what, number in (
        ("max concurrent downloads", c.max_concurrent_downloads),
        ("max concurrent uploads", c.max_concurrent_uploads),
    ):
        if number < 0:
            raise InvalidSpec(f"invalid {what}: {number}: not below 0, which is no bound")
    if c.max_download_attempts < 1:
        raise InvalidSpec(
            f"invalid max download attempts: {c.max_download_attempts}: not below 1"
        )  # fmt: skip


def _defaults(c: DaemonConfig) -> None:
    """Check the defaults for containers."""
    if c.ipc_mode not in {"", "private", "shareable"}:
        raise InvalidSpec(f"--default-ipc-mode {c.ipc_mode}: use private or shareable")
    if c.cgroupns_mode not in {"", "private", "host"}:
        raise InvalidSpec(f"--default-cgroupns-mode {c.cgroupns_mode}: use private or host")
    words = c.cgroup_parent.strip("/").split("/")
    if c.cgroup_parent and ("." in words or ".." in words or "" in words):
        raise InvalidSpec(f"--cgroup-parent {c.cgroup_parent}: give a path such as /apps")
    for name, (soft, hard) in c.ulimits.items():
        check_values(Ulimit(name=name, soft=soft, hard=hard))
    if len(c.host_gateway_ips) > 1:
        raise InvalidSpec("--host-gateway-ip: give one IPv4 address; IPv6 is not supported yet")
    for text in c.host_gateway_ips:
        try:
            IPv4Address(text)
        except ValueError:
            raise InvalidSpec(f"--host-gateway-ip {text} is not an IPv4 address") from None
