"""Apply `container update` to a container's limits.  Pure."""

from __future__ import annotations

import msgspec

from netkit.errors import Conflict, InvalidSpec
from runtime.container import restart_policy
from runtime.container.config import HostConfig
from runtime.container.options import UpdateRequest

_UPDATABLE = {
    "CpuShares", "Memory", "NanoCpus", "CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems",
    "MemoryReservation", "MemorySwap", "PidsLimit", "RestartPolicy", "BlkioWeight",
    "CpuRealtimePeriod", "CpuRealtimeRuntime", "KernelMemory",
}  # fmt: skip


def apply_update(host: HostConfig, request: UpdateRequest) -> HostConfig:
    """A copy with the new values.  InvalidSpec for fields that cannot be updated."""
    fields = msgspec.structs.fields(HostConfig)
    given = set(request.given)
    if unknown := sorted(given & {f.encode_name for f in fields} - _UPDATABLE):
        raise InvalidSpec(f"{unknown[0]} of a container cannot be updated")
    new = msgspec.structs.replace(host)
    for field in fields:
        value = getattr(request, field.name)
        if field.encode_name in given & _UPDATABLE and _is_set(field.encode_name, value):
            setattr(new, field.name, value)
    if "Memory" in given and "MemorySwap" not in given and 0 < host.memory_swap < new.memory:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    restart_policy.check(new.restart_policy, new.auto_remove)
    return new


def _is_set(name: str, value: object) -> bool:
    """Is the field set?  Docker's client sends zeroes for fields to be left unchanged."""
    if name == "RestartPolicy":
        return bool(getattr(value, "name", ""))
    if name == "PidsLimit":
        return value is not None
    return bool(value)
