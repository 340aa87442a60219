"""Render a container's device nodes and the rules of its device cgroup."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import Any

from netkit.errors import InvalidSpec
from netkit.gone import gone
from runtime.container.config import Device, HostConfig

# Docker's device cgroup: deny all, allow mknod of any node, then these.  The runtime adds those
# that the specification requires (pts, ptmx) itself.
_ALLOWED: tuple[tuple[str, int | None, int | None, str], ...] = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 7, "rwm"),  # full
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 5, 0, "rwm"),  # tty
    ("c", 5, 1, "rwm"),  # console
    ("c", 5, 2, "rwm"),  # ptmx
    ("c", 136, None, "rwm"),  # pts
)
_RULE = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})")


def check(host: HostConfig) -> None:
    for d in host.devices or ():
        if not re.fullmatch(r"[rwm]{0,3}", d.cgroup_permissions):
            raise InvalidSpec(f"invalid device permissions {d.cgroup_permissions!r}: use r, w, m")
        inside = d.path_in_container or d.path_on_host
        if not inside.startswith("/") or not d.path_on_host.startswith("/"):
            raise InvalidSpec(f"{d.path_on_host}:{inside} is not an absolute path")
    for rule in host.device_cgroup_rules or ():
        if not _RULE.fullmatch(rule):
            raise InvalidSpec(f"invalid device cgroup rule format: '{rule}'; e.g. 'c 10:200 rwm'")


def render(host: HostConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(linux.devices, linux.resources.devices) of the runtime specification.

    InvalidSpec for a device that does not exist, in Docker's words.
    """
    if host.privileged:
        return list(_all_of_host()), [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for kind, major, minor, access in _ALLOWED:
        rules.append(_allow(kind, major, minor, access))
    nodes: list[dict[str, Any]] = []
    for device in host.devices or ():
        for node in _nodes(device):
            nodes.append(node)
            access = device.cgroup_permissions or "rwm"
            rules.append(_allow(node["type"], node["major"], node["minor"], access))
    for text in host.device_cgroup_rules or ():
        match = _RULE.fullmatch(text)
        assert match
        numbers = [None if n == "*" else int(n) for n in match.group(2, 3)]
        rules.append(_allow(match[1], numbers[0], numbers[1], match[4]))
    return nodes, rules


def _allow(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


def _nodes(device: Device) -> Iterator[dict[str, Any]]:
    inside = device.path_in_container or device.path_on_host
    path = os.path.realpath(device.path_on_host)
    try:
        if os.path.isdir(path):
            for folder, _, names in os.walk(path):
                for name in sorted(names):
                    full = os.path.join(folder, name)
                    st = os.stat(full, follow_symlinks=False)
                    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                        yield _node(os.path.join(inside, os.path.relpath(full, path)), st)
            return
        st = os.stat(path)
    except OSError as e:
        raise InvalidSpec(
            "error gathering device information while adding custom device "
            f'"{device.path_on_host}": '
            f"{(e.strerror or str(e)).lower()}"
        ) from None
    if not (stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)):
        raise InvalidSpec(
            "error gathering device information while adding custom device "
            f'"{device.path_on_host}": not a device node'
        )
    yield _node(inside, st)


def _node(path: str, st: os.stat_result) -> dict[str, Any]:
    return {
        "path": path,
        "type": "c" if stat.S_ISCHR(st.st_mode) else "b",
        "major": os.major(st.st_rdev),
        "minor": os.minor(st.st_rdev),
        "fileMode": stat.S_IMODE(st.st_mode),
        "uid": st.st_uid,
        "gid": st.st_gid,
    }


def _all_of_host() -> Iterator[dict[str, Any]]:
    """Every node of the host's /dev, except those the container has its own of."""
    own = {"pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"}
    for folder, names, nodes in os.walk("/dev"):
        if folder == "/dev":
            names[:] = [n for n in names if n not in own]
        for name in sorted(nodes):
            path = os.path.join(folder, name)
            if folder == "/dev" and name in own:
                continue
            try:
                st = os.lstat(path)
            except OSError as error:
                if gone(error):
                    continue
                raise
            if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                yield _node(path, st)
