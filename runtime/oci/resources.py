"""Validate limits, and convert Docker's HostConfig to linux.resources of the OCI specification."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

from netkit.errors import InvalidSpec
from runtime.container.config import HostConfig, ThrottleDevice
from runtime.oci.cgroups import Cgroups

LEAST_MEMORY = 6 * 1024 * 1024  # bytes, Docker's minimum
_BLOCK_LISTS = (
    "blkio_weight_device", "blkio_device_read_bps", "blkio_device_write_bps",
    "blkio_device_read_i_ops", "blkio_device_write_i_ops",
)  # fmt: skip
_PERIOD = 100_000  # us, the CFS period in which NanoCpus are expressed


def check(host: HostConfig, cpus: int, cgroups: Cgroups) -> list[str]:
    """Validate limits in Docker's words; warnings for those this host cannot enforce."""
    memory = host.memory
    if memory and memory < LEAST_MEMORY:
        raise InvalidSpec("Minimum memory limit allowed is 6MB")
    if memory and host.memory_swap > 0 and host.memory_swap < memory:
        raise InvalidSpec("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not memory and host.memory_swap > 0:
        raise InvalidSpec("You should always set the Memory limit when using Memoryswap limit")
    if host.memory_reservation and memory and memory < host.memory_reservation:
        raise InvalidSpec("Minimum memory limit can not be less than memory reservation limit")
    if host.nano_cpus and not 10_000_000 <= host.nano_cpus <= cpus * 1_000_000_000:
        raise InvalidSpec(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if host.nano_cpus and (host.cpu_period or host.cpu_quota):
        which = "Period" if host.cpu_period else "Quota"
        raise InvalidSpec(f"Conflicting options: Nano CPUs and CPU {which} cannot both be set")
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidSpec("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s "
                          "(i.e. 1000000)")  # fmt: skip
    if 0 < host.cpu_quota < 1000:
        raise InvalidSpec("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_shares < 0:
        raise InvalidSpec(f"invalid CPU shares ({host.cpu_shares}): value must be positive")
    _check_set("cpuset-cpus", host.cpuset_cpus, cpus)
    _check_set("cpuset-mems", host.cpuset_mems, 1024)
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidSpec("Range of blkio weight is from 10 to 1000")
    swappiness = host.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidSpec(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if host.oom_score_adj and not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidSpec(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    return _warnings(host, cgroups)


def _warnings(host: HostConfig, cgroups: Cgroups) -> list[str]:
    warnings = []
    needs = (
        ("memory", host.memory or host.memory_reservation, "memory limit"),
        (
            "cpu",
            host.nano_cpus or host.cpu_quota or host.cpu_shares or host.cpu_period,
            "CPU limit",
        ),
        ("cpuset", host.cpuset_cpus or host.cpuset_mems, "cpuset"),
        ("pids", (host.pids_limit or 0) > 0, "PIDs limit"),
    )
    for controller, wanted, what in needs:
        if wanted and controller not in cgroups.controllers:
            warnings.append(_discarded(what))
    if _block_io(host) and not {"blkio", "io"} & cgroups.controllers:
        warnings.append(_discarded("block I/O limits"))
    if cgroups.version == 2:
        if host.oom_kill_disable:
            warnings.append(_discarded("OomKillDisable"))
        if host.memory_swappiness not in {None, -1}:
            warnings.append(_discarded("memory swappiness"))
    if host.memory and host.memory_swap != -1 and not cgroups.swap:
        warnings.append("Your kernel does not support swap limit capabilities or the cgroup is "
                        "not mounted. Memory limited without swap.")  # fmt: skip
    return warnings


def complete(host: HostConfig, cgroups: Cgroups) -> None:
    """Write the limits that apply on this host into the document, as dockerd does.

    The limit of memory plus swap is twice that of memory unless it is given.  Limits that this
    host cannot enforce, which a warning announced as discarded, are dropped.
    """
    have = cgroups.controllers
    if "memory" not in have:
        host.memory = host.memory_reservation = 0
        host.memory_swap = -1 if host.memory_swap else 0
    elif host.memory:
        host.memory_swap = (host.memory_swap or host.memory * 2) if cgroups.swap else -1
    if cgroups.version == 2:
        host.oom_kill_disable = None
    if cgroups.version == 2 or host.memory_swappiness == -1:
        host.memory_swappiness = None
    if "cpu" not in have:
        host.nano_cpus = host.cpu_quota = host.cpu_shares = host.cpu_period = 0
    if "cpuset" not in have:
        host.cpuset_cpus = host.cpuset_mems = ""
    if "pids" not in have:
        host.pids_limit = None
    if not {"blkio", "io"} & have:
        host.blkio_weight = 0
        for name in _BLOCK_LISTS:
            setattr(host, name, None)


def _discarded(what: str) -> str:
    return f"Your kernel does not support {what} or the cgroup is not mounted. Discarded."


def _block_io(host: HostConfig) -> bool:
    return bool(host.blkio_weight or any(getattr(host, name) for name in _BLOCK_LISTS))


def _check_set(what: str, text: str, count: int) -> None:
    """ "0-2,4": numbers below `count`; bounded before it is expanded (CVE-2018-20699)."""
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        ends = [low, high] if dash else [low]
        if not all(e.isascii() and e.isdigit() and len(e) < 6 for e in ends):
            raise InvalidSpec(f"Invalid value {text} for {what}")
        if int(ends[0]) > int(ends[-1]):
            raise InvalidSpec(f"Invalid value {text} for {what}")
        if int(ends[-1]) >= count:
            raise InvalidSpec(
                f"Requested CPUs are not available - requested {text}, available: 0-{count - 1}"
            )


def render(host: HostConfig, cgroups: Cgroups) -> dict[str, Any]:
    """linux.resources without devices: the limits that are set and that this host supports."""
    out: dict[str, Any] = {}
    have = cgroups.controllers
    if "memory" in have and (memory := _memory(host, cgroups)):
        out["memory"] = memory
    if {"cpu", "cpuset"} & have and (cpu := _cpu(host, have)):
        out["cpu"] = cpu
    if host.pids_limit and "pids" in have:
        out["pids"] = {"limit": host.pids_limit if host.pids_limit > 0 else -1}
    if {"blkio", "io"} & have and (blkio := _blkio(host)):
        out["blockIO"] = blkio
    return out


def _memory(host: HostConfig, cgroups: Cgroups) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if host.memory:
        out["limit"] = host.memory
        if cgroups.swap:
            out["swap"] = host.memory_swap or host.memory * 2
    if host.memory_reservation:
        out["reservation"] = host.memory_reservation
    if host.memory_swappiness is not None and host.memory_swappiness >= 0 and cgroups.version == 1:
        out["swappiness"] = host.memory_swappiness
    if host.oom_kill_disable and cgroups.version == 1:
        out["disableOOMKiller"] = True
    return out


def _cpu(host: HostConfig, have: frozenset[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if "cpu" in have:
        if host.cpu_shares:
            out["shares"] = host.cpu_shares
        if host.nano_cpus:
            out |= {"period": _PERIOD, "quota": host.nano_cpus * _PERIOD // 1_000_000_000}
        if host.cpu_period:
            out["period"] = host.cpu_period
        if host.cpu_quota:
            out["quota"] = host.cpu_quota
    if "cpuset" in have:
        if host.cpuset_cpus:
            out["cpus"] = host.cpuset_cpus
        if host.cpuset_mems:
            out["mems"] = host.cpuset_mems
    return out


def _blkio(host: HostConfig) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if host.blkio_weight:
        out["weight"] = host.blkio_weight
    if host.blkio_weight_device:
        out["weightDevice"] = [
            {**_numbers(d.path), "weight": d.weight} for d in host.blkio_weight_device
        ]
    throttles: Mapping[str, list[ThrottleDevice] | None] = {
        "throttleReadBpsDevice": host.blkio_device_read_bps,
        "throttleWriteBpsDevice": host.blkio_device_write_bps,
        "throttleReadIOPSDevice": host.blkio_device_read_i_ops,
        "throttleWriteIOPSDevice": host.blkio_device_write_i_ops,
    }
    for key, devices in throttles.items():
        if devices:
            out[key] = [{**_numbers(d.path), "rate": d.rate} for d in devices]
    return out


def _numbers(path: str) -> dict[str, int]:
    try:
        st = os.stat(path)
    except OSError as e:
        raise InvalidSpec(f"block device {path}: {e.strerror}") from None
    if not stat.S_ISBLK(st.st_mode):
        raise InvalidSpec(f"{path} is not a block device")
    return {"major": os.major(st.st_rdev), "minor": os.minor(st.st_rdev)}
