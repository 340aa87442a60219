"""Compute a container's Linux capabilities; names as in capabilities(7).  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from netkit.errors import InvalidSpec

# Docker's default set
DEFAULT = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
        "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    )
)  # fmt: skip

# In the kernel's numbering; the last that this kernel has is in /proc/sys/kernel/cap_last_cap.
ALL = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
        "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
        "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
        "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
        "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
        "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
        "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    )
)  # fmt: skip


def available(bounding: int) -> tuple[str, ...]:
    """Names of the capabilities in a mask as in /proc/self/status (CapBnd)."""
    return tuple(name for bit, name in enumerate(ALL) if bounding >> bit & 1)


def chosen(
    add: Iterable[str], drop: Iterable[str], *, privileged: bool, have: Iterable[str]
) -> tuple[str, ...]:
    """The container's capabilities, limited to the daemon's, in the kernel's order."""
    have = set(have)
    if privileged:
        return tuple(name for name in ALL if name in have)
    add, drop = [_name(c) for c in add], [_name(c) for c in drop]
    base = set(ALL) if "ALL" in add else set() if "ALL" in drop else set(DEFAULT)
    if "ALL" in add:
        base -= set(drop)
    else:
        base = (base - set(drop)) | set(add)
    for name in add:
        if name != "ALL" and name not in have:
            raise InvalidSpec(f"capability {name} is not available here: the daemon lacks it")
    return tuple(name for name in ALL if name in base and name in have)


def _name(text: str) -> str:
    word = text.upper()
    if word == "ALL":
        return word
    word = word if word.startswith("CAP_") else f"CAP_{word}"
    if word not in ALL:
        raise InvalidSpec(f'invalid capability: "{text}"; see capabilities(7), e.g. NET_ADMIN')
    return word
