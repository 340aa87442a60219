"""A lab, as values.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from netkit.lab.checks import Check
from netkit.lab.schedule import Event
from netkit.model.impairment import TwoWay

BUSYBOX = "busybox"
UNDERLAY = "underlay"  # the namespace that holds the segments; no host has this name
DEFAULT_NETWORK = "bridge"
WEAVE = "weave"  # a driver, and the network that `weave launch` makes
BUILT_IN = frozenset({DEFAULT_NETWORK, "host", "none"})
NETKIT, DOCKER, PODMAN = "netkit", "docker", "podman"  # engines: who runs a host's containers
ENGINE_SOCKET = "engine.sock"
NETWORK_OPTION = "netkit.network"  # the network of netkit's that one of dockerd or podman is
SCOPE_OPTION = "netkit.scope"  # on all hosts of the cluster, as an option of dockerd's networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    name: str
    mtu: int | None = None  # bytes
    impair: TwoWay = TwoWay()  # noqa: RUF009  a frozen value; of each interface without its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    name: str
    segment: str
    address: IPv4Interface | None = None
    mac: str | None = None
    impair: TwoWay | None = None  # None: as its segment says


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoute:
    dst: IPv4Network
    gateway: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Static busybox with its applets and more files, or a Debian; and Dockerfile lines."""

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    bootstrap: str = ""  # "debian:bookworm": by debootstrap; "": busybox
    include: tuple[str, ...] = ()  # packages that are installed
    packages: tuple[str, ...] = ()  # ... that `apt-get install` finds without a network


@dataclass(frozen=True, slots=True, kw_only=True)
class LabNetwork:
    """Fields as the flags of `netkit net create`; "" and {} where nothing was given."""

    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    internal: bool = False
    scope: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = ""
    ipam_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """All hosts of the cluster have it."""
        return self.scope == "global"

    @property
    def flags(self) -> tuple[str, ...]:
        """Of `netkit net create`, but for --driver."""
        given = {
            "subnet": self.subnet, "gateway": self.gateway, "ip-range": self.ip_range,
            "scope": self.scope, "ipam-driver": self.ipam_driver,
        }  # fmt: skip
        return (
            *(f"--{name}={value}" for name, value in given.items() if value),
            *(("--internal",) if self.internal else ()),
            *(f"--opt={key}={value}" for key, value in self.options.items()),
            *(f"--ipam-opt={key}={value}" for key, value in self.ipam_options.items()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabContainer:
    """`flags` are those of `netkit run` beside name and networks."""

    name: str
    image: str
    command: tuple[str, ...]
    networks: Mapping[str, str | None]  # to a fixed address, or None; empty: the default one
    ports: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    name: str
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[HostRoute, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    ovs: bool = False  # has an Open vSwitch of its own
    ovs_tso: bool = True  # which segments TCP by itself, where it can
    daemon: tuple[str, ...] | None = ()  # flags; None: a machine without netkitd
    engine: str = NETKIT  # who runs its containers: NETKIT, DOCKER, PODMAN
    weave: tuple[str, ...] | None = None  # words of `weave launch`; None: it is not launched
    images: tuple[str, ...] = ()
    networks: tuple[LabNetwork, ...] = ()
    containers: tuple[LabContainer, ...] = ()
    firewall: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    name: str
    folder: str = ""  # where lab.yml is
    summary: str = ""
    segments: tuple[Segment, ...] = ()
    images: tuple[Image, ...] = ()
    hosts: tuple[LabHost, ...] = ()
    checks: tuple[Check, ...] = ()
    cluster: tuple[str, ...] = ()  # hosts that run its servers
    ovn: tuple[str, ...] = ()  # hosts that run servers of an OVN
    schedule: tuple[Event, ...] = ()  # what goes wrong, by time

    def host(self, name: str) -> LabHost | None:
        return next((h for h in self.hosts if h.name == name), None)

    def containers(self) -> Iterator[tuple[LabHost, LabContainer]]:
        return ((h, c) for h in self.hosts for c in h.containers)

    def shared(self) -> frozenset[str]:
        """Names of networks that all hosts of the cluster have."""
        return frozenset(n.name for h in self.hosts for n in h.networks if n.shared)

    def impairment(self, host: str, interface: str) -> TwoWay:
        """Of an interface: what lab.yml says of it, or else of its segment.  KeyError."""
        for h in self.hosts:
            for i in h.interfaces if h.name == host else ():
                if i.name == interface:
                    found = (s.impair for s in self.segments if s.name == i.segment)
                    return next(found, TwoWay()) if i.impair is None else i.impair
        raise KeyError(f"{host}@{interface}")

    def image(self, name: str) -> Image:
        return next((i for i in self.images if i.name == name), Image(name=name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths of everything of a lab: by its name alone, so that it is found without lab.yml."""

    lab: str
    state: str = "/run/netkit-lab"
    disk: str = "/var/lib/netkit-lab"
    short: str = "/run/nkl"  # conmon adds 81 characters to a run folder; a socket's path has 107
    names: str = "/run/netns"

    @property
    def folder(self) -> str:
        """Journal and logs."""
        return f"{self.state}/{self.lab}"

    @property
    def lock(self) -> str:
        return f"{self.state}/{self.lab}.lock"

    @property
    def roots(self) -> str:
        return f"{self.disk}/{self.lab}"

    @property
    def images(self) -> str:
        """Archives of images, shared by all labs."""
        return f"{self.disk}/.images"

    def netns(self, host: str) -> str:
        return f"{self.names}/{self.namespace(host)}"

    def namespace(self, host: str) -> str:
        """As `ip netns` knows it."""
        return f"nk-{self.lab}-{host}"

    def root(self, host: str) -> str:
        return f"{self.roots}/{host}"

    def run(self, host: str) -> str:
        digest = hashlib.sha256(f"{self.lab}\0{host}".encode()).hexdigest()
        return f"{self.short}/{digest[:10]}"

    def ovs(self, host: str) -> str:
        """Where its Open vSwitch has database, sockets and logs."""
        return f"{self.run(host)}/ovs"

    def socket(self, host: str) -> str:
        return f"{self.run(host)}/netkit.sock"

    @property
    def impairments(self) -> str:
        """What was impaired since `up`, by link."""
        return f"{self.folder}/impairments.json"

    @property
    def faulty(self) -> str:
        """There while a schedule runs, or after one that was killed."""
        return f"{self.folder}/faulty"

    def config(self, host: str) -> str:
        """An empty daemon.json: the machine's own is not meant for labs."""
        return f"{self.folder}/{host}.json"

    def log(self, host: str) -> str:
        return f"{self.folder}/{host}.log"

    def mounts(self, host: str) -> str:
        """The file that holds the mount namespace of a host with an engine of other makers."""
        return f"{self.run(host)}/m/mnt"

    def engine(self, host: str) -> str:
        """Socket of the engine that runs the host's containers, where that is not netkitd."""
        return f"{self.run(host)}/{ENGINE_SOCKET}"

    def client(self, host: str) -> str:
        """Folder of docker's client: a login on a host is none of the user's own."""
        return f"{self.folder}/{host}.docker"
