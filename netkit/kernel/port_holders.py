"""Find the process of this host that listens on a port, for messages.

Sockets by NETLINK_SOCK_DIAG, processes by the links in /proc/PID/fd; see proc(5), sock_diag(7).
"""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from netkit.errors import KernelError
from netkit.kernel.netlink.sock_diag import waiting

ANY = IPv4Address(0)


def holder(proto: str, ip: str, port: int) -> str:
    """ "nginx, pid 812"; "" if no process of this namespace is seen to have it."""
    asked = IPv4Address(ip)
    try:
        found = [
            w.inode
            for w in waiting("")
            if (w.proto, w.port) == (proto, port)
            and (w.address == asked or ANY in {w.address, asked})
        ]
    except (KernelError, OSError):
        return ""
    pid = _process({f"socket:[{inode}]" for inode in found if inode})
    return f"{_name(pid)}, pid {pid}" if pid else ""


def _process(sockets: set[str]) -> int:
    """The lowest pid that has one of these open; 0 if none has."""
    if not sockets:
        return 0
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as fds:
            for fd in fds:
                with suppress(OSError):
                    if os.readlink(fd.path) in sockets:
                        return pid
    return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "a process"
