"""From a container's configuration to config.json of the OCI runtime specification 1.0.2.

https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config-linux.md; the profile
(capabilities, masks, mounts, devices, seccomp) is Docker's.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netkit.errors import InvalidSpec
from runtime.containers.config import Config, HostConfig, Ulimit
from runtime.oci import capabilities, devices, resources, seccomp
from runtime.oci.cgroups import Cgroups
from runtime.oci.users import User

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = 64 << 20  # bytes
INIT = "/sbin/docker-init"  # where the init binary is bind-mounted, as in Docker

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_RLIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime "
    "sigpending stack".split()
)
# Namespaced settings only: kernel Documentation/admin-guide/sysctl, and Docker's list.
_IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax "
    "kernel.shmmni kernel.shm_rmid_forced".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleMount:
    """One mount of the container, in the words of mount(8)."""

    source: str
    destination: str
    type: str = "bind"
    options: tuple[str, ...] = ("rbind", "rprivate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the specification depends on of the machine."""

    machine: str  # uname -m
    cgroups: Cgroups
    bounding: tuple[str, ...]  # capabilities the daemon has
    hard_limits: Mapping[str, int]  # of the daemon, by name ("nofile"); -1 is unlimited
    raise_limits: bool  # CAP_SYS_RESOURCE
    cpus: int
    init: str  # path of an init binary, "" if there is none
    shared_memory: tuple[str, ...] = ("/dev/shm",)  # of /dev/shm and /dev/mqueue, what is mounted
    absent_abis: frozenset[str] = frozenset()  # by their names in libseccomp, see `abi`


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things of one container are; "" for a namespace is the host's own."""

    id: str
    rootfs: str
    netns: str
    pid: str = "private"  # private, host, or the path of a namespace
    ipc: str = "private"
    uts: str = "private"
    cgroup: str = ""


def check(config: Config, host_config: HostConfig, host: Host) -> list[str]:
    """What can be judged at create: InvalidSpec in Docker's words, warnings."""
    warnings = resources.check(host_config, host.cpus, host.cgroups)
    devices.check(host_config)
    capabilities.chosen(
        host_config.cap_add or (),
        host_config.cap_drop or (),
        privileged=host_config.privileged,
        have=host.bounding,
    )
    _Security.of(host_config)
    _check_sysctls(host_config)
    for limit in host_config.ulimits or ():
        _check_ulimit(limit, host)
    if host_config.init and not host.init:
        raise InvalidSpec(
            "--init: no init binary on this host; install tini (or catatonit) and try again"
        )
    for path, options in (host_config.tmpfs or {}).items():
        _check_tmpfs(path, options)
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidSpec(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an "
            "absolute path"
        )
    if _clean(config.working_dir).split("/")[1] == "proc":
        raise InvalidSpec(f"working directory {config.working_dir} in /proc is not allowed")
    return warnings


def build(
    config: Config,
    host_config: HostConfig,
    places: Places,
    user: User,
    mounts: Iterable[BundleMount],
    host: Host,
) -> dict[str, Any]:
    security = _Security.of(host_config)
    caps = capabilities.chosen(
        host_config.cap_add or (),
        host_config.cap_drop or (),
        privileged=host_config.privileged,
        have=host.bounding,
    )
    bounding = list(caps)
    effective = bounding if user.uid == 0 else []
    args = [*(config.entrypoint or ()), *(config.cmd or ())]
    if host_config.init:
        args = [INIT, "--", *args]
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": args,
        "env": environment(config, user),
        "cwd": _clean(config.working_dir),
        "capabilities": {
            "bounding": bounding,
            "effective": effective,
            "permitted": effective,
        },
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": host_config.oom_score_adj,
    }
    if host_config.console_size and config.tty and any(host_config.console_size):
        height, width = host_config.console_size
        process["consoleSize"] = {"height": height, "width": width}
    if limits := [_ulimit(u) for u in host_config.ulimits or ()]:
        process["rlimits"] = limits
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": places.rootfs, "readonly": host_config.readonly_rootfs},
        "hostname": config.hostname if places.uts != "host" else "",
        "mounts": _mounts(host_config, places, mounts, host),
        "annotations": dict(host_config.annotations or {}),
        "linux": _linux(host_config, places, caps, security, host, config.domainname),
    }


def environment(config: Config, user: User, extra: Iterable[str] = ()) -> list[str]:
    """Docker's defaults under the wishes; later ones win."""
    base = {"PATH": PATH, "HOSTNAME": config.hostname, "HOME": user.home}
    if config.tty:
        base["TERM"] = "xterm"
    for entry in (*(config.env or ()), *extra):
        name, eq, value = entry.partition("=")
        if eq:
            base[name] = value
        else:
            base.pop(name, None)  # "NAME" alone unsets
    return [f"{k}={v}" for k, v in base.items() if v or k != "HOSTNAME"]


def _linux(
    host_config: HostConfig,
    places: Places,
    caps: tuple[str, ...],
    security: _Security,
    host: Host,
    domainname: str,
) -> dict[str, Any]:
    nodes, device_rules = devices.render(host_config)
    masked, read_only = list(MASKED), list(READ_ONLY)
    if host_config.masked_paths is not None:
        masked = list(host_config.masked_paths)
    if host_config.readonly_paths is not None:
        read_only = list(host_config.readonly_paths)
    if host_config.privileged or security.open_system_paths:
        masked, read_only = [], []
    out: dict[str, Any] = {
        "cgroupsPath": places.cgroup,
        "namespaces": _namespaces(places, host, host_config.cgroupns_mode),
        "devices": nodes,
        "resources": {"devices": device_rules, **resources.render(host_config, host.cgroups)},
        "maskedPaths": masked,
        "readonlyPaths": read_only,
    }
    if sysctls := _sysctls(host_config, places, domainname):
        out["sysctl"] = sysctls
    profile = security.profile
    if profile is not None and not (host_config.privileged and security.builtin):
        out["seccomp"] = seccomp.resolve(profile, caps, host.machine, host.absent_abis)
    if spread := _root_propagation(host_config):
        out["rootfsPropagation"] = spread
    return out


def _root_propagation(host_config: HostConfig) -> str:
    text = ",".join(host_config.binds or ())
    spreads = [str((m.bind_options or {}).get("Propagation", "")) for m in host_config.mounts or ()]
    words = {*text.replace(":", ",").split(","), *spreads}
    if words & {"shared", "rshared"}:
        return "shared"
    return "slave" if words & {"slave", "rslave"} else ""


def _namespaces(places: Places, host: Host, cgroupns: str) -> list[dict[str, str]]:
    out = [{"type": "mount"}]
    if places.netns:
        out.append({"type": "network", "path": places.netns})
    for kind, where in (("pid", places.pid), ("ipc", places.ipc), ("uts", places.uts)):
        if where == "private":
            out.append({"type": kind})
        elif where != "host":
            out.append({"type": kind, "path": where})
    if (cgroupns or ("private" if host.cgroups.version == 2 else "host")) == "private":
        out.append({"type": "cgroup"})
    return out


def _sysctls(host_config: HostConfig, places: Places, domainname: str) -> dict[str, str]:
    out = dict(host_config.sysctls or {})
    if domainname and places.uts == "private":
        out["kernel.domainname"] = domainname
    if places.netns:
        out.setdefault("net.ipv4.ip_unprivileged_port_start", "0")
        out.setdefault("net.ipv4.ping_group_range", "0 2147483647")
    return out


def _check_sysctls(host_config: HostConfig) -> None:
    for name in host_config.sysctls or {}:
        net = name.startswith("net.")
        if net and host_config.network_mode == "host":
            raise InvalidSpec(f"sysctl '{name}' not allowed in host network namespace")
        ipc = name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")
        if ipc and host_config.ipc_mode == "host":
            raise InvalidSpec(f"sysctl '{name}' not allowed in host ipc namespace")
        if not (net or ipc):
            raise InvalidSpec(f"sysctl '{name}' is not whitelisted: it is not namespaced")


def _mounts(
    host_config: HostConfig, places: Places, extra: Iterable[BundleMount], host: Host
) -> list[dict[str, Any]]:
    shm = host_config.shm_size or SHM_SIZE
    writable = host_config.privileged
    sys_options = ["nosuid", "noexec", "nodev", "rw" if writable else "ro"]
    standard = [
        BundleMount(source="proc", destination="/proc", type="proc",
                    options=("nosuid", "noexec", "nodev")),
        BundleMount(source="tmpfs", destination="/dev", type="tmpfs",
                    options=("nosuid", "strictatime", "mode=755", "size=65536k")),
        BundleMount(source="devpts", destination="/dev/pts", type="devpts",
                    options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
                             "gid=5")),
        BundleMount(source="sysfs", destination="/sys", type="sysfs", options=tuple(sys_options)),
        BundleMount(source="cgroup", destination="/sys/fs/cgroup", type="cgroup",
                    options=tuple(sys_options)),
        BundleMount(source="mqueue", destination="/dev/mqueue", type="mqueue",
                    options=("nosuid", "noexec", "nodev")),
        BundleMount(source="shm", destination="/dev/shm", type="tmpfs",
                    options=("nosuid", "noexec", "nodev", "mode=1777", f"size={shm}")),
    ]  # fmt: skip
    if not places.netns:  # a new sysfs shows only the network namespace it is mounted in
        standard = [
            m if m.destination != "/sys" else BundleMount(
                source="/sys", destination="/sys", options=("rbind", "nosuid", "noexec", "nodev",
                                                            "rw" if writable else "ro"))
            for m in standard
        ]  # fmt: skip
    if places.ipc == "host":
        shared = [BundleMount(source=path, destination=path) for path in host.shared_memory]
        hidden = {"/dev/shm", "/dev/mqueue"}
        standard = [m for m in standard if m.destination not in hidden] + shared
    init = [
        BundleMount(source=host.init, destination=INIT, options=("bind", "ro"))
    ] if host_config.init else []  # fmt: skip
    temporary = [_tmpfs(path, options) for path, options in (host_config.tmpfs or {}).items()]
    everything = [*extra, *temporary, *init]
    covered = {posixpath.normpath(m.destination) for m in everything}
    kept = [m for m in standard if m.destination not in covered]
    everything.sort(key=lambda m: posixpath.normpath(m.destination).count("/"))
    return [
        {
            "destination": m.destination,
            "type": m.type,
            "source": m.source,
            "options": list(m.options),
        }
        for m in (*kept, *everything)
    ]


_TMPFS_WORDS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev sync async dirsync atime noatime relatime norelatime "
    "strictatime diratime nodiratime private rprivate shared rshared slave rslave".split()
)
_TMPFS_KEYS = frozenset("size mode uid gid nr_inodes nr_blocks mpol huge".split())


def _clean(path: str) -> str:
    """Absolute, with one leading slash: normpath keeps two, which POSIX lets mean another thing."""
    return "/" + posixpath.normpath(path or "/").lstrip("/")


def _check_tmpfs(path: str, options: str) -> None:
    if not path.startswith("/"):
        raise InvalidSpec(f"invalid mount path: '{path}' mount path must be absolute")
    if _clean(path) == "/":
        raise InvalidSpec("invalid specification: destination can't be '/'")
    for word in options.split(",") if options else ():
        key = word.partition("=")[0]
        if word not in _TMPFS_WORDS and key not in _TMPFS_KEYS:
            raise InvalidSpec(f"invalid tmpfs option {word!r} for {path}")


def _tmpfs(path: str, options: str) -> BundleMount:
    words = tuple(w for w in options.split(",") if w)
    return BundleMount(
        source="tmpfs",
        destination=path,
        type="tmpfs",
        options=("noexec", "nosuid", "nodev", *words) if "exec" not in words
        else ("nosuid", "nodev", *words),
    )  # fmt: skip


def _check_ulimit(u: Ulimit, host: Host) -> None:
    if u.name not in _RLIMITS:
        raise InvalidSpec(f"invalid ulimit type: {u.name}")
    if min(u.soft, u.hard) < -1:
        raise InvalidSpec(f"ulimit {u.name}={u.soft}:{u.hard}: -1 is unlimited, less is no limit")
    if u.hard != -1 and (u.soft > u.hard or (u.soft == -1 and u.hard >= 0)):
        raise InvalidSpec(
            f"ulimit soft limit must be less than or equal to hard limit: {u.soft} > {u.hard}"
        )
    limit = host.hard_limits.get(u.name, -1)
    above = limit != -1 and (u.hard == -1 or u.hard > limit)
    if above and not host.raise_limits:
        raise InvalidSpec(
            f"ulimit {u.name}: hard limit {u.hard} is above the daemon's own {limit}, and the "
            "daemon has no CAP_SYS_RESOURCE to raise it"
        )


def _ulimit(u: Ulimit) -> dict[str, Any]:
    most = 2**64 - 1
    return {
        "type": f"RLIMIT_{u.name.upper()}",
        "hard": u.hard if u.hard >= 0 else most,
        "soft": u.soft if u.soft >= 0 else most,
    }


@dataclass(frozen=True, slots=True)
class _Security:
    """What --security-opt says."""

    no_new_privileges: bool
    profile: Mapping[str, Any] | None
    builtin: bool
    open_system_paths: bool

    @classmethod
    def of(cls, host_config: HostConfig) -> _Security:
        no_new, opened, given = False, False, ""
        for option in host_config.security_opt or ():
            key, sep, value = _split(option)
            if key == "no-new-privileges":
                if sep and value.lower() not in {"true", "1", "false", "0"}:
                    raise InvalidSpec(f"invalid --security-opt: {option!r}: true or false")
                no_new = not sep or value.lower() in {"true", "1"}
            elif key == "seccomp" and sep:
                given = value
            elif key == "systempaths" and value == "unconfined":
                opened = True
            elif (key, value) in {("apparmor", "unconfined"), ("label", "disable")}:
                continue  # there is neither here
            elif key in {"apparmor", "label"}:
                raise InvalidSpec(f"--security-opt {option}: this engine has no {key} support")
            else:
                raise InvalidSpec(f"invalid --security-opt: {option!r}")
        if given == "unconfined":
            return cls(no_new, None, False, opened)
        if given in {"", "builtin", "default"}:
            return cls(no_new, seccomp.builtin(), True, opened)
        return cls(no_new, seccomp.parse(given), False, opened)


def _split(option: str) -> tuple[str, str, str]:
    """ "key=value", or the older "key:value"."""
    for sep in "=:":
        key, found, value = option.partition(sep)
        if found and key in {"no-new-privileges", "seccomp", "apparmor", "label", "systempaths"}:
            return key, found, value
    return option, "", ""
