"""Sample a container's resource usage from cgroup v1 or v2, in the format of the Engine API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from netkit.timestamps import rfc3339
from runtime.oci.cgroups import TOP, Cgroups

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # ns


def sample(cgroups: Cgroups, path: str, pid: int, *, network: bool) -> dict[str, Any]:
    """Take one sample; `pid` selects the network namespace.  Missing counters are zero."""
    gather = _v2 if cgroups.version == 2 else _v1
    return {
        "read": rfc3339(),
        "num_procs": 0,  # this and storage_stats are for Windows
        "storage_stats": {},
        **gather(path.lstrip("/")),
        "networks": _networks(pid) if network else {},
    }


def _v1(path: str) -> dict[str, Any]:
    memory, cpu, pids, blkio = (TOP / c / path for c in ("memory", "cpuacct", "pids", "blkio"))
    detail = _pairs(memory / "memory.stat")
    times = _pairs(cpu / "cpuacct.stat")
    throttling = _pairs(TOP / "cpu" / path / "cpu.stat")
    return {
        "pids_stats": _pids(pids),
        "cpu_stats": _cpu(
            total=_number(cpu / "cpuacct.usage"),
            user=times.get("user", 0) * _TICK,
            system=times.get("system", 0) * _TICK,
            throttling=throttling,
            scale=1,
        )
        | {"online_cpus": os.cpu_count() or 1},
        "memory_stats": {
            "usage": _number(memory / "memory.usage_in_bytes"),
            "max_usage": _number(memory / "memory.max_usage_in_bytes"),
            "stats": detail,
            "failcnt": _number(memory / "memory.failcnt"),
            "limit": _limit(_number(memory / "memory.limit_in_bytes")),
        },
        "blkio_stats": _blkio_v1(blkio),
    }


def _v2(path: str) -> dict[str, Any]:
    group = TOP / path
    times = _pairs(group / "cpu.stat")
    return {
        "pids_stats": _pids(group),
        "cpu_stats": _cpu(
            total=times.get("usage_usec", 0) * 1000,
            user=times.get("user_usec", 0) * 1000,
            system=times.get("system_usec", 0) * 1000,
            throttling=times,
            scale=1000,
        )
        | {"online_cpus": os.cpu_count() or 1},
        "memory_stats": {
            "usage": _number(group / "memory.current"),
            "stats": _pairs(group / "memory.stat"),
            "limit": _limit(_number(group / "memory.max")),
        },
        "blkio_stats": _blkio_v2(group),
    }


def _cpu(
    *, total: int, user: int, system: int, throttling: dict[str, int], scale: int
) -> dict[str, Any]:
    throttled = throttling.get("throttled_time", throttling.get("throttled_usec", 0) * scale)
    return {
        "cpu_usage": {
            "total_usage": total,
            "usage_in_kernelmode": system,
            "usage_in_usermode": user,
        },
        "system_cpu_usage": _whole_system(),
        "throttling_data": {
            "periods": throttling.get("nr_periods", 0),
            "throttled_periods": throttling.get("nr_throttled", 0),
            "throttled_time": throttled,
        },
    }


def _whole_system() -> int:
    """CPU time of the host in ns, as Docker counts it: without guest time."""
    for line in _text(Path("/proc/stat")).splitlines():
        if line.startswith("cpu "):
            return sum(map(int, line.split()[1:8])) * _TICK
    return 0


def _pids(folder: Path) -> dict[str, int]:
    stats = {"current": _number(folder / "pids.current")}
    if limit := _number(folder / "pids.max"):
        stats["limit"] = limit
    return stats


def _limit(value: int) -> int:
    """The memory limit; without one (a huge number in v1) the host's memory, as Docker."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(value, total) if value else total


def _blkio_v1(folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, name in (
        ("io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"),
        ("io_serviced_recursive", "blkio.throttle.io_serviced_recursive"),
    ):
        entries = []
        for line in _text(folder / name).splitlines():
            parts = line.split()
            if len(parts) == 3 and ":" in parts[0]:
                major, minor = map(int, parts[0].split(":"))
                entries.append(
                    {"major": major, "minor": minor, "op": parts[1], "value": int(parts[2])}
                )
        out[key] = entries
    return out


def _blkio_v2(folder: Path) -> dict[str, Any]:
    moved: list[dict[str, Any]] = []
    for line in _text(folder / "io.stat").splitlines():
        device, *pairs = line.split()
        major, minor = map(int, device.split(":"))
        values = dict(p.split("=") for p in pairs)
        for op, key in (("read", "rbytes"), ("write", "wbytes")):
            moved.append(
                {"major": major, "minor": minor, "op": op, "value": int(values.get(key, 0))}
            )
    return {"io_service_bytes_recursive": moved, "io_serviced_recursive": None}


def _networks(pid: int) -> dict[str, dict[str, int]]:
    """Counters per interface, from the namespace the process is in."""
    out: dict[str, dict[str, int]] = {}
    for line in _text(Path(f"/proc/{pid}/net/dev")).splitlines()[2:]:
        name, _, rest = line.partition(":")
        n = [int(x) for x in rest.split()]
        if name.strip() == "lo" or len(n) < 12:
            continue
        out[name.strip()] = {
            "rx_bytes": n[0], "rx_packets": n[1], "rx_errors": n[2], "rx_dropped": n[3],
            "tx_bytes": n[8], "tx_packets": n[9], "tx_errors": n[10], "tx_dropped": n[11],
        }  # fmt: skip
    return out


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _pairs(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit()}
