"""Validate and render --ulimit; setrlimit(2)."""

from __future__ import annotations

from typing import Any

from netkit.errors import InvalidSpec
from runtime.container.config import Ulimit
from runtime.oci.inputs import HostInfo

_RLIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime "
    "sigpending stack".split()
)


def check_values(u: Ulimit) -> None:
    """Check what does not depend on the host; InvalidSpec."""
    if u.name not in _RLIMITS:
        raise InvalidSpec(f"invalid ulimit type: {u.name}")
    if min(u.soft, u.hard) < -1:
        raise InvalidSpec(f"ulimit {u.name}={u.soft}:{u.hard}: -1 is unlimited, less is no limit")
    if u.hard != -1 and (u.soft > u.hard or (u.soft == -1 and u.hard >= 0)):
        raise InvalidSpec(
            f"ulimit soft limit must be less than or equal to hard limit: {u.soft} > {u.hard}"
        )


def check(u: Ulimit, host: HostInfo) -> None:
    check_values(u)
    limit = host.hard_limits.get(u.name, -1)
    above = limit != -1 and (u.hard == -1 or u.hard > limit)
    if above and not host.raise_limits:
        raise InvalidSpec(
            f"ulimit {u.name}: hard limit {u.hard} is above the daemon's own {limit}, and the "
            "daemon has no CAP_SYS_RESOURCE to raise it"
        )


def render(u: Ulimit) -> dict[str, Any]:
    most = 2**64 - 1
    return {
        "type": f"RLIMIT_{u.name.upper()}",
        "hard": u.hard if u.hard >= 0 else most,
        "soft": u.soft if u.soft >= 0 else most,
    }
