"""Validate --sysctl, and render it with the settings that every container has."""

from __future__ import annotations

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig
from runtime.oci.inputs import ContainerPaths

# Namespaced settings only: kernel Documentation/admin-guide/sysctl, and Docker's list.
_IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax "
    "kernel.shmmni kernel.shm_rmid_forced".split()
)


def render(host_config: HostConfig, places: ContainerPaths, domainname: str) -> dict[str, str]:
    out = dict(host_config.sysctls or {})
    if domainname and places.uts == "private":
        out["kernel.domainname"] = domainname
    # As Docker since 20.10: ports below 1024 and ping need no capability in a container.
    if places.netns:
        out.setdefault("net.ipv4.ip_unprivileged_port_start", "0")
        out.setdefault("net.ipv4.ping_group_range", "0 2147483647")
    return out


def check(host_config: HostConfig) -> None:
    for name in host_config.sysctls or {}:
        net = name.startswith("net.")
        if net and host_config.network_mode == "host":
            raise InvalidSpec(f"sysctl '{name}' not allowed in host network namespace")
        ipc = name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")
        if ipc and host_config.ipc_mode == "host":
            raise InvalidSpec(f"sysctl '{name}' not allowed in host ipc namespace")
        if not (net or ipc):
            raise InvalidSpec(f"sysctl '{name}' is not whitelisted: it is not namespaced")
