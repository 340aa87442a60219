"""How the daemon is told what to do: flags over the configuration file over the defaults.  Pure."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from netkit.cluster.remotes import parse as parse_remotes
from netkit.cluster.tls import FLAGS as CLUSTER_TLS
from netkit.cluster.tls import Certificates
from netkit.errors import InvalidSpec

DEFAULT_CONFIG = Path("/etc/netkit/daemon.json")
FIREWALL_BACKENDS = ("auto", "iptables", "iptables-nft", "iptables-legacy", "nftables")
DEFAULT_HOST = "unix:///run/netkit/netkit.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonConfig:
    """Everything the daemon can be told.  Keys of the file are the names of the long flags."""

    root: Path = Path("/var/lib/netkit")
    run: Path = Path("/run/netkit")
    hosts: tuple[str, ...] = ()
    group: str = "netkit"
    labels: tuple[str, ...] = ()
    pidfile: str = ""
    debug: bool = False
    runtime: str = "auto"
    # TLS on tcp:// listeners
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    insecure_tcp: bool = False
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
    cluster: str = ""
    cluster_advertise: str = ""
    cluster_tls_ca: Path | None = None
    cluster_tls_cert: Path | None = None
    cluster_tls_key: Path | None = None
    default_address_pools: tuple[tuple[str, int], ...] = ()
    # for all containers
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    init: bool = False

    @property
    def cluster_servers(self) -> str:
        """That somebody else runs, as Open vSwitch names them; "" for none."""
        tls = self.certificates is not None
        return parse_remotes(self.cluster, tls=tls) if self.cluster else ""

    @property
    def certificates(self) -> Certificates | None:
        """Of the cluster; None where it is without TLS."""
        ca, cert, key = self.cluster_tls_ca, self.cluster_tls_cert, self.cluster_tls_key
        return Certificates(ca=ca, cert=cert, key=key) if ca and cert and key else None

    @property
    def listeners(self) -> tuple[str, ...]:
        if self.hosts:
            return self.hosts
        return (f"unix://{self.run / 'netkit.sock'}",)


# flag, key, kind, metavariable, help
_FLAGS: tuple[tuple[tuple[str, ...], str, str, str, str], ...] = (
    (("--root", "--data-root"), "root", "path", "DIR", "state that outlives a reboot"),
    (("--run", "--exec-root"), "run", "path", "DIR", "sockets, namespaces, mounts"),
    (("-H", "--host"), "hosts", "list", "URL", "listen on unix://PATH, tcp://HOST:PORT, fd://"),
    (("--group", "-G"), "group", "text", "NAME", "group of the unix socket"),
    (("--label",), "labels", "list", "K=V", "label of this engine, shown by info"),
    (("--pidfile", "-p"), "pidfile", "text", "FILE", "write the process id here"),
    (("--debug", "-D"), "debug", "flag", "", "log more"),
    (("--runtime", "--default-runtime"), "runtime", "text", "NAME", "runc, crun or auto"),
    (("--tls",), "tls", "flag", "", "TLS on tcp listeners"),
    (("--tlsverify",), "tlsverify", "flag", "", "TLS, and clients need a certificate of our CA"),
    (("--tlscacert",), "tlscacert", "text", "FILE", "the CA that signs clients"),
    (("--tlscert",), "tlscert", "text", "FILE", "our certificate"),
    (("--tlskey",), "tlskey", "text", "FILE", "our key"),
    (("--insecure-tcp",), "insecure_tcp", "flag", "", "allow plain TCP off loopback: root for all"),
    (("--bridge", "-b"), "bridge", "text", "NAME", "bridge of the default network, or none"),
    (("--bip",), "bip", "text", "CIDR", "address of docker0, e.g. 172.26.0.1/16"),
    (("--fixed-cidr",), "fixed_cidr", "text", "CIDR", "addresses to give out on docker0"),
    (("--default-gateway",), "default_gateway", "text", "IP", "gateway of docker0's containers"),
    (("--mtu",), "mtu", "number", "BYTES", "MTU of the default network"),
    (("--icc",), "icc", "flag", "", "containers on docker0 may talk to each other (default true)"),
    (("--ip",), "ip", "text", "IP", "address that ports are published on by default"),
    (("--ip-forward",), "ip_forward", "flag", "", "switch net.ipv4.ip_forward on (default true)"),
    (("--ip-masq",), "ip_masq", "flag", "", "masquerade docker0 (default true)"),
    (("--iptables",), "iptables", "flag", "", "write firewall rules (default true)"),
    (("--userland-proxy",), "userland_proxy", "flag", "", "accepted; there is no proxy to start"),
    (("--firewall-backend",), "firewall_backend", "text", "NAME",
     "auto, iptables, iptables-nft, iptables-legacy or nftables"),
    (("--ovs-db",), "ovs_db", "text", "SOCKET",
     "the database of Open vSwitch: unix:PATH (default unix:/run/openvswitch/db.sock)"),
    (("--cluster",), "cluster", "text", "SERVERS",
     "networks shared with other hosts: ovsdb:tcp:IP:6640,tcp:IP:6640, or ssl:"),
    (("--cluster-advertise",), "cluster_advertise", "text", "IP",
     "address by which other hosts of the cluster know this one"),
    (("--cluster-tls-ca",), "cluster_tls_ca", "path", "FILE",
     "TLS between hosts of the cluster: the CA that signs all of them, and nobody else"),
    (("--cluster-tls-cert",), "cluster_tls_cert", "path", "FILE", "this host's certificate"),
    (("--cluster-tls-key",), "cluster_tls_key", "path", "FILE", "this host's key"),
    (("--default-address-pool",), "default_address_pools", "pools", "base=CIDR,size=N",
     "where networks take their subnets from"),
    (("--dns",), "dns", "list", "IP", "name server of containers"),
    (("--dns-opt",), "dns_opts", "list", "OPTION", "resolver option of containers"),
    (("--dns-search",), "dns_search", "list", "DOMAIN", "search domain of containers"),
    (("--init",), "init", "flag", "", "an init process in every container"),
)  # fmt: skip

# other spellings in daemon.json: Docker's plurals and names
_KEYS = {
    "data-root": "root",
    "exec-root": "run",
    "hosts": "hosts",
    "labels": "labels",
    "dns-opts": "dns_opts",
    "default-address-pools": "default_address_pools",
    "default-runtime": "runtime",
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="netkitd",
        description="The netkit daemon: runs containers, serves the Docker Engine API.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    p.add_argument("--config", "--config-file", metavar="FILE", help="daemon.json")
    p.add_argument("--version", "-v", action="store_true", help="print the version and end")
    for flags, key, kind, meta, text in _FLAGS:
        if kind == "flag":
            p.add_argument(*flags, dest=key, nargs="?", const="true", metavar="BOOL", help=text)
        elif kind in {"list", "pools"}:
            p.add_argument(*flags, dest=key, action="append", metavar=meta, help=text)
        else:
            p.add_argument(*flags, dest=key, metavar=meta, help=text)
    return p


def load(argv: Sequence[str], read: Any = Path.read_text) -> DaemonConfig:
    """Flags and file together; InvalidSpec says which key or flag is wrong and why.

    A key given in both places is refused, as Docker does: one of the two would be ignored.
    """
    given = vars(parser().parse_args(argv))
    path = given.pop("config", None)
    given.pop("version", None)
    file = Path(path) if path else DEFAULT_CONFIG
    values: dict[str, Any] = {}
    if path or file.exists():
        values = _from_file(file, read)
        if both := sorted(set(values) & set(given)):
            raise InvalidSpec(
                f"{both[0].replace('_', '-')} is given as a flag and in {file}: give it once"
            )
    kinds = {key: kind for _, key, kind, _, _ in _FLAGS}
    values |= {key: _value(kinds[key], key, value) for key, value in given.items()}
    return _checked(DaemonConfig(**values))


def _from_file(file: Path, read: Any) -> dict[str, Any]:
    try:
        document = json.loads(read(file))
    except OSError as e:
        raise InvalidSpec(f"cannot read {file}: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise InvalidSpec(f"{file} is not JSON: {e}") from e
    if not isinstance(document, dict):
        raise InvalidSpec(f"{file} must hold one JSON object")
    kinds = {key: kind for _, key, kind, _, _ in _FLAGS}
    known = {key.replace("_", "-"): key for key in kinds} | _KEYS
    values: dict[str, Any] = {}
    for word, value in document.items():
        if word not in known:
            near = difflib.get_close_matches(word, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidSpec(f"unknown key {word!r} in {file}{hint}")
        key = known[word]
        values[key] = _value(kinds[key], word, value)
    return values


def _value(kind: str, key: str, value: Any) -> Any:
    name = key.replace("_", "-")
    if kind == "flag":
        if isinstance(value, bool):
            return value
        if str(value).lower() in {"true", "1", "t", "false", "0", "f"}:
            return str(value).lower() in {"true", "1", "t"}
        raise InvalidSpec(f"{name} is true or false, not {value!r}")
    if kind == "number":
        try:
            return int(value)
        except (TypeError, ValueError):
            raise InvalidSpec(f"{name} is a number, not {value!r}") from None
    if kind == "path":
        return Path(str(value)).absolute()
    if kind == "list":
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise InvalidSpec(f"{name} is a list of texts, not {value!r}")
        return tuple(value)
    if kind == "pools":
        return tuple(_pool(name, v) for v in value)
    if not isinstance(value, str):
        raise InvalidSpec(f"{name} is a text, not {value!r}")
    return value


def _pool(name: str, value: Any) -> tuple[str, int]:
    try:
        if isinstance(value, str):
            pairs = dict(part.split("=", 1) for part in value.split(","))
        else:
            pairs = {k: str(v) for k, v in value.items()}
        base, size = ip_network(pairs.pop("base")), int(pairs.pop("size"))
        if pairs or not base.prefixlen <= size <= base.max_prefixlen:
            raise ValueError(value)
    except (KeyError, ValueError, AttributeError):
        raise InvalidSpec(
            f"{name} {value!r}: give base=CIDR,size=N with N not shorter than the base's prefix"
        ) from None
    return str(base), size


def _checked(c: DaemonConfig) -> DaemonConfig:
    for label in c.labels:
        if "=" not in label or label.startswith("="):
            raise InvalidSpec(f"bad attribute format: {label}: give --label KEY=VALUE")
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
    for server in c.dns:
        try:
            ip_address(server)
        except ValueError:
            raise InvalidSpec(f"--dns {server} is not an ip address") from None
    if c.mtu and not 68 <= c.mtu <= 65535:
        raise InvalidSpec(f"--mtu {c.mtu}: between 68 and 65535 bytes")
    if c.firewall_backend not in FIREWALL_BACKENDS:
        raise InvalidSpec(
            f"--firewall-backend {c.firewall_backend}: use {', '.join(FIREWALL_BACKENDS)}"
        )
    if not c.ovs_db.startswith("unix:/"):
        raise InvalidSpec(f"--ovs-db {c.ovs_db}: use unix:/PATH, the socket of this host's own")
    files = (c.cluster_tls_ca, c.cluster_tls_cert, c.cluster_tls_key)
    absent = [flag for flag, file in zip(CLUSTER_TLS, files, strict=True) if not file]
    if 0 < len(absent) < len(files):
        raise InvalidSpec(f"{', '.join(CLUSTER_TLS)}: give all of them; {absent[0]} is missing")
    if c.cluster:
        parse_remotes(c.cluster, tls=not absent)
    if (c.tlsverify or c.tls) and not (c.tlscert and c.tlskey):
        raise InvalidSpec("--tls and --tlsverify need --tlscert and --tlskey")
    if c.tlsverify and not c.tlscacert:
        raise InvalidSpec("--tlsverify needs --tlscacert")
    return c
