"""Engines of other makers on hosts of a lab: dockerd and podman, with netkitd's networks.

Their programs are those of the machine, or of unpacked packages: NETKIT_LAB_DOCKER and
NETKIT_LAB_PODMAN are root folders of such.  Both run in the host's own mount namespace, as its
netkitd does, with all their files below the host's folders, and answer at one socket as a Docker
Engine: dockerd itself, or podman's service.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from netkit.client.engine import Engine
from netkit.errors import NotFound
from netkit.lab import syslog
from netkit.lab.daemon import LabDaemon, Served, clean_environment
from netkit.lab.model import DOCKER, NETKIT, NETWORK_OPTION, PODMAN, LabHost, LabNetwork, Places
from netkit.lab.mounts import entered
from netkit.lab.sweep import GROUP, daemons

VARIABLES = {DOCKER: "NETKIT_LAB_DOCKER", PODMAN: "NETKIT_LAB_PODMAN"}
PROGRAMS = {DOCKER: ("dockerd", "containerd", "runc"), PODMAN: ("podman", "conmon", "runc")}
PACKAGES = {DOCKER: "docker.io", PODMAN: "podman"}
CAPABILITIES = ("portMappings", "ips", "mac", "aliases")
KEY_PATH = "--deprecated-key-path"  # dockerd's, until 28: else it writes below /etc/docker
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
PLUGINS = "usr/lib/cni"
FILES = 1 << 20  # podman's default for the number of open files
CONF = """\
[network]
network_backend = "cni"
cni_plugin_dirs = {plugins}
network_config_dir = "{run}/net.d"

[engine]
cgroup_manager = "cgroupfs"
conmon_env_vars = {environ}
events_logger = "none"
runtime = "runc"
tmp_dir = "{run}/tmp"

[containers]
default_ulimits = {limits}
log_driver = "k8s-file"
"""
STORAGE = '[storage]\ndriver = "vfs"\ngraphroot = "{root}/storage"\nrunroot = "{run}/storage"\n'


def missing(kind: str) -> str:
    """Why an engine cannot run on this machine; "" if it can.  The machine's PATH is looked at."""
    found = _search(kind)
    absent = [name for name in PROGRAMS.get(kind, ()) if not shutil.which(name, path=found)]
    if not absent:
        return ""
    root = os.environ.get(VARIABLES[kind])
    where = f"{root} ({VARIABLES[kind]}) or PATH" if root else "PATH"
    return (
        f"no {', '.join(absent)} in {where}: install the Debian package {PACKAGES[kind]}, or set "
        f"{VARIABLES[kind]} to a folder where it is unpacked"
    )


def _search(kind: str) -> str:
    """A PATH: of the unpacked packages first."""
    root = os.environ.get(VARIABLES.get(kind, ""), "")
    own = f"{root}/usr/bin:{root}/usr/sbin:" if root else ""
    return f"{own}{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def kind(places: Places, host: str) -> str:
    """Who runs the containers of a host that is up."""
    run = places.run(host)
    return next((k for k in (DOCKER, PODMAN) if os.path.isdir(f"{run}/{k}")), NETKIT)


def flags(host: LabHost, places: Places) -> tuple[str, ...]:
    """Of the host's netkitd."""
    if host.engine == NETKIT:
        return ()
    url = f"unix://{places.engine(host.name)}"
    plugin = ("--docker-plugin", f"--docker-api={url}") if host.engine == DOCKER else ()
    return ("--containers=false", *plugin)


def require(hosts: Iterable[LabHost]) -> None:
    """NotFound if this machine lacks programs of an engine: names a host, and what to do."""
    for host in hosts:
        if why := missing(host.engine):
            raise NotFound(f"{host.name} has engine {host.engine}: {why}")


def prepare(host: LabHost, places: Places) -> None:
    """Make the folder of the host's engine, by which it is found again."""
    os.makedirs(f"{places.run(host.name)}/{host.engine}", mode=0o711, exist_ok=True)


def serving(places: Places, host: str) -> Served:
    """The daemon that runs the host's containers, and answers as a Docker Engine."""
    match kind(places, host):
        case "docker":
            return Dockerd(places, host)
        case "podman":
            return Podman(places, host)
    return LabDaemon(places, host)


def engine(places: Places, host: str) -> Engine:
    """A connection to what runs the host's containers; the caller closes it."""
    return serving(places, host).engine()


def environment(places: Places, host: str) -> dict[str, str]:
    """Variables for commands on the host, beside PATH: where its engine is."""
    found = serving(places, host)
    more = found.variables if isinstance(found, Podman) else {}
    return {"DOCKER_HOST": found.url, **more}


def path(places: Places, host: str) -> str:
    """PATH for commands on the host: programs of this installation first."""
    return f"{Path(sys.executable).parent}:{_search(kind(places, host))}"


def ensure(host: LabHost, places: Places) -> None:
    """Start what the host's engine needs, where it does not run.  KernelError."""
    found = serving(places, host.name)
    if isinstance(found, Dockerd):
        found.ensure()
    elif isinstance(found, Podman):
        found.ensure(host.networks)


class Foreign(Served):
    """An engine of other makers: its files are below `run` and `root`."""

    def __init__(self, places: Places, host: str) -> None:
        log = places.log(host).removesuffix(".log") + f".{self.name}.log"
        super().__init__(places, host, places.engine(host), log)
        self.run_folder = f"{places.run(host)}/{self.name}"
        self.root = f"{places.root(host)}/{self.name}"

    def pids(self) -> list[int]:
        return daemons(self.url, self.program)

    @property
    def program(self) -> str:
        """Name of its program."""
        return PROGRAMS[self.name][0]

    def found(self, name: str) -> str:
        """Path of one of its programs; "" if there is none."""
        return shutil.which(name, path=_search(self.name)) or ""


class Dockerd(Foreign):
    name = DOCKER

    def ensure(self) -> None:
        config = Path(f"{self.run_folder}/daemon.json")
        config.write_text("{}")
        dockerd = self.found(self.program)
        command = [
            dockerd, "-H", self.url, "--config-file", str(config), "--data-root", self.root,
            "--exec-root", f"{self.run_folder}/x", "--pidfile", f"{self.run_folder}/pid",
            "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", GROUP,
            *self._helpers(), *self._key(dockerd),
        ]  # fmt: skip
        self.run(command, clean_environment() | {"PATH": _search(DOCKER)})

    def _helpers(self) -> list[str]:
        """Programs that dockerd looks for in a folder of its own."""
        given = {"--init-path": "docker-init", "--userland-proxy-path": "docker-proxy"}
        return [
            word for flag, name in given.items() if (at := self.found(name)) for word in (flag, at)
        ]

    def _key(self, dockerd: str) -> list[str]:
        words = [KEY_PATH, f"{self.run_folder}/key.json"]
        done = subprocess.run(
            [dockerd, *words, "--version"], capture_output=True, timeout=20, check=False
        )
        return words if done.returncode == 0 else []


class Podman(Foreign):
    """podman with its CNI back end; it is at `url` by its service."""

    name = PODMAN

    @property
    def variables(self) -> dict[str, str]:
        """By which `podman` on the host has its files there."""
        found = {
            "CONTAINERS_CONF": f"{self.run_folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.run_folder}/storage.conf",
        }
        root = os.environ.get(VARIABLES[PODMAN])
        libraries = sorted(map(str, Path(root).glob("usr/lib/*-linux-gnu"))) if root else []
        return found | ({"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {})

    def ensure(self, networks: Sequence[LabNetwork]) -> None:
        folders = ("net.d", "bin", "home/.config/containers")
        for each in folders:
            os.makedirs(f"{self.run_folder}/{each}", mode=0o711, exist_ok=True)
        own, client = Path(self.run_folder), Path(self.places.client(self.host))
        client.mkdir(mode=0o700, exist_ok=True)
        if not (client / "config.json").exists():  # podman reads it as well, and fails without
            (client / "config.json").write_text("{}")
        (own / folders[2] / "policy.json").write_text(POLICY)
        (own / "storage.conf").write_text(STORAGE.format(root=self.root, run=own))
        environ = {"PATH": _search(PODMAN), **self.variables}
        given = [f"{name}={value}" for name, value in environ.items()]
        root = os.environ.get(VARIABLES[PODMAN])
        plugins = [f"{own}/bin", f"{root}/{PLUGINS}" if root else f"/{PLUGINS}"]
        conf = CONF.format(
            plugins=json.dumps(plugins), environ=json.dumps(given), run=own, root=self.root,
            limits=json.dumps(_limits()),
        )  # fmt: skip
        (own / "containers.conf").write_text(conf)
        self._plugin(f"{own}/bin")
        for network in networks:
            text = json.dumps(configuration(network, self.places.socket(self.host)), indent=2)
            (own / f"net.d/{network.name}.conflist").write_text(f"{text}\n")
        self._syslog()
        home = {"HOME": f"{own}/home", **environ}
        command = [self.found(self.program), "system", "service", "--time=0", self.url]
        self.run(command, clean_environment() | home)

    def _syslog(self) -> None:
        """Where the machine has no syslogd, a receiver for the host."""
        log = f"{self.run_folder}/syslog.log"
        if os.path.exists("/dev/log") or daemons(log, os.path.basename(syslog.__file__)):
            return
        words = [sys.executable, "-IS", syslog.__file__, "/run/syslog", log]
        subprocess.run(
            entered(self.places, self.host, words), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=20,
        )  # fmt: skip

    def _plugin(self, folder: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "netkit.frontends.cni.program", "--install", folder],
            env=clean_environment(), stdout=subprocess.DEVNULL, check=True, timeout=20,
        )  # fmt: skip


def _limits() -> list[str]:
    """Of containers: what podman may set where it must not raise a limit."""
    most = int(Path("/proc/sys/kernel/pid_max").read_text())  # podman lowers its own nproc to it
    bounds = {"nofile": (resource.RLIMIT_NOFILE, FILES), "nproc": (resource.RLIMIT_NPROC, most)}
    out = []
    for name, (kind, bound) in bounds.items():
        hard = resource.getrlimit(kind)[1]
        most = bound if hard == resource.RLIM_INFINITY else min(hard, bound)
        out.append(f"{name}={most}:{most}")
    return out


def configuration(network: LabNetwork, socket: str) -> Mapping[str, object]:
    """A network of podman's, for the netkitd at `socket`."""
    plugin: dict[str, object] = {
        "type": "netkit", "socket": socket, "capabilities": dict.fromkeys(CAPABILITIES, True),
    }  # fmt: skip
    options = dict(network.options)
    if name := options.pop(NETWORK_OPTION, ""):
        plugin["network"] = name
    else:
        plugin |= {"driver": network.driver, "options": options}
        given = {
            "subnet": network.subnet, "ipRange": network.ip_range, "gateway": network.gateway,
            "scope": network.scope, "ipamDriver": network.ipam_driver,
            "internal": network.internal,
        }  # fmt: skip
        plugin |= {key: value for key, value in given.items() if value}
    return {"cniVersion": "1.0.0", "name": network.name, "plugins": [plugin]}
