"""Facts on the host and the configuration, as `info` and `version` show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.daemon import registry_keys
from runtime.daemon.bootstrap_network import NetworkServices
from runtime.daemon.config import DaemonConfig
from runtime.oci.shim import Shim


def programs(shim: Shim, init: str) -> dict[str, str]:
    """Paths of the programs that run containers, for `version`."""
    return {"runtime": shim.runtime, "conmon": shim.conmon, "init": init}


def of_host(shim: Shim, init: str) -> dict[str, Any]:
    """Return what `info` says of this host."""
    name = Path(shim.runtime).name
    have, v1 = shim.cgroups.controllers, shim.cgroups.version == 1
    return {
        "MemoryLimit": "memory" in have,
        "SwapLimit": shim.cgroups.swap,
        "CpuCfsPeriod": "cpu" in have,
        "CpuCfsQuota": "cpu" in have,
        "CPUShares": "cpu" in have,
        "CPUSet": "cpuset" in have,
        "PidsLimit": "pids" in have,
        "OomKillDisable": "memory" in have and v1,
        "InitBinary": Path(init).name,
        "CgroupVersion": str(shim.cgroups.version),
        "Runtimes": {name: {"path": shim.runtime}} if name else {},
        "DefaultRuntime": name,
    }


def configured(config: DaemonConfig, below: NetworkServices) -> dict[str, Any]:
    """Return what `info` says of the configuration, and of what came of it on this host."""
    refused = [f"network {n} cannot be used: {why}" for n, why in below.networks.refused().items()]
    warnings = (below.firewall.warning, *config.warnings, *refused)
    return {
        "FirewallBackend": below.firewall.info(below.host),
        "RegistryConfig": registry_keys.shown(config.registry_mirrors, config.insecure_registries),
        "LoggingDriver": config.log_driver,
        "Warnings": [f"WARNING: {text}" for text in warnings if text],
    }
