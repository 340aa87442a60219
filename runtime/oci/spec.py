"""Build config.json of the OCI runtime specification 1.0.2 from a container's configuration.

https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config-linux.md; the profile
(capabilities, masks, mounts, devices, seccomp) is Docker's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netkit.errors import InvalidSpec
from runtime.container.config import Config, HostConfig
from runtime.container.mount_specs import clean
from runtime.oci import capabilities, devices, mounts, resources, seccomp, sysctls, ulimits
from runtime.oci.inputs import BundleMount, ContainerPaths, HostInfo
from runtime.oci.security_opt import Security
from runtime.oci.users import User

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def check(config: Config, host_config: HostConfig, host: HostInfo) -> list[str]:
    """Validate at `create` what needs no root file system; warnings.  InvalidSpec as in Docker."""
    warnings = resources.check(host_config, host.cpus, host.cgroups)
    devices.check(host_config)
    capabilities.chosen(
        host_config.cap_add or (),
        host_config.cap_drop or (),
        privileged=host_config.privileged,
        have=host.bounding,
    )
    Security.of(host_config)
    sysctls.check(host_config)
    for limit in host_config.ulimits or ():
        ulimits.check(limit, host)
    if host_config.init and not host.init:
        raise InvalidSpec(
            "--init: no init binary on this host; install tini (or catatonit) and try again"
        )
    for path, options in (host_config.tmpfs or {}).items():
        mounts.check_tmpfs(path, options)
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidSpec(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an "
            "absolute path"
        )
    # /proc/self/fd/N could be a directory of the host that runc has open (CVE-2024-21626).
    if clean(config.working_dir).split("/")[1] == "proc":
        raise InvalidSpec(f"working directory {config.working_dir} in /proc is not allowed")
    return warnings


def build(
    config: Config,
    host_config: HostConfig,
    places: ContainerPaths,
    user: User,
    extra: Iterable[BundleMount],
    host: HostInfo,
) -> dict[str, Any]:
    security = Security.of(host_config)
    caps = capabilities.chosen(
        host_config.cap_add or (),
        host_config.cap_drop or (),
        privileged=host_config.privileged,
        have=host.bounding,
    )
    return {
        "ociVersion": "1.0.2",
        "process": _process(config, host_config, user, caps, security),
        "root": {"path": places.rootfs, "readonly": host_config.readonly_rootfs},
        "hostname": config.hostname if places.uts != "host" else "",
        "mounts": mounts.render(host_config, places, extra, host),
        "annotations": dict(host_config.annotations or {}),
        "linux": _linux(host_config, places, caps, security, host, config.domainname),
    }


def _process(
    config: Config, host_config: HostConfig, user: User, caps: tuple[str, ...], security: Security
) -> dict[str, Any]:
    # No inheritable capabilities, as in Docker since CVE-2022-24769: a file with inheritable ones
    # could raise them for a user that is not root.
    bounding = list(caps)
    effective = bounding if user.uid == 0 else []
    args = [*(config.entrypoint or ()), *(config.cmd or ())]
    if host_config.init:
        args = [mounts.INIT, "--", *args]
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": args,
        "env": environment(config, user),
        "cwd": clean(config.working_dir),
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
    if limits := [ulimits.render(u) for u in host_config.ulimits or ()]:
        process["rlimits"] = limits
    return process


def environment(config: Config, user: User, extra: Iterable[str] = ()) -> list[str]:
    """Environment of the process: Docker's defaults, overridden by the container's."""
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
    places: ContainerPaths,
    caps: tuple[str, ...],
    security: Security,
    host: HostInfo,
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
    if settings := sysctls.render(host_config, places, domainname):
        out["sysctl"] = settings
    # A privileged container has no seccomp filter unless a profile was given, as in Docker.
    profile = security.profile
    if profile is not None and not (host_config.privileged and security.builtin):
        out["seccomp"] = seccomp.resolve(profile, caps, host.machine, host.absent_abis)
    if spread := _root_propagation(host_config):
        out["rootfsPropagation"] = spread
    return out


def _root_propagation(host_config: HostConfig) -> str:
    """rootfsPropagation: shared or slave bind mounts need a root mount that propagates, too."""
    text = ",".join(host_config.binds or ())
    spreads = [m.bind_options.propagation for m in host_config.mounts or () if m.bind_options]
    words = {*text.replace(":", ",").split(","), *spreads}
    if words & {"shared", "rshared"}:
        return "shared"
    return "slave" if words & {"slave", "rslave"} else ""


def _namespaces(places: ContainerPaths, host: HostInfo, cgroupns: str) -> list[dict[str, str]]:
    out = [{"type": "mount"}]
    # A namespace that is not listed is the host's; the network namespace exists already, with
    # links and rules, before the container is created.
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
