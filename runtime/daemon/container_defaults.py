"""Apply the daemon's defaults to a container's configuration.  Pure."""

from __future__ import annotations

from netkit.errors import Forbidden
from runtime.container.config import HostConfig, LogConfig, Ulimit
from runtime.daemon.config import DaemonConfig


def apply(c: DaemonConfig, host: HostConfig) -> None:
    """Set defaults as dockerd does at create (moby v28, daemon/{create,logs,daemon_unix}.go).

    Forbidden where no container is to be created.
    """
    if not c.containers:
        raise Forbidden("this netkitd runs no containers (--containers=false): another engine does")
    _log(c, host)
    host.shm_size = host.shm_size or c.shm_size
    host.ipc_mode = host.ipc_mode or c.ipc_mode
    host.cgroupns_mode = host.cgroupns_mode or c.cgroupns_mode
    host.cgroup_parent = host.cgroup_parent or c.cgroup_parent
    if host.init is None and c.init:
        host.init = True
    given = {limit.name for limit in host.ulimits or ()}
    if added := [
        Ulimit(name=name, soft=soft, hard=hard)
        for name, (soft, hard) in c.ulimits.items()
        if name not in given
    ]:
        host.ulimits = [*(host.ulimits or ()), *added]
    if c.no_new_privileges and not any(
        option.startswith("no-new-privileges") for option in host.security_opt or ()
    ):
        host.security_opt = [*(host.security_opt or ()), "no-new-privileges"]


def _log(c: DaemonConfig, host: HostConfig) -> None:
    """Merge log options: the daemon's apply to its own driver only; the container's override."""
    log = host.log_config
    driver = log.type or c.log_driver
    if driver == c.log_driver and c.log_opts:
        host.log_config = LogConfig(type=driver, config={**c.log_opts, **(log.config or {})})
    elif driver != "json-file" and not log.type:
        host.log_config = LogConfig(type=driver, config=log.config)
