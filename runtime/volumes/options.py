"""Names of volumes, and options of the `local` driver: validated as dockerd does.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from netkit.errors import InvalidSpec, NotFound, NotSupported
from runtime.rootfs import mount
from runtime.volumes.model import DRIVER

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LONGEST = 255  # NAME_MAX: a volume is a directory
_KNOWN = frozenset({"type", "o", "device", "size"})
_NEEDS = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_FLAGS = {
    "ro": mount.MS_RDONLY, "nosuid": mount.MS_NOSUID, "nodev": mount.MS_NODEV,
    "noexec": mount.MS_NOEXEC, "noatime": mount.MS_NOATIME, "nodiratime": mount.MS_NODIRATIME,
    "relatime": mount.MS_RELATIME, "rw": 0, "suid": 0, "dev": 0, "exec": 0, "atime": 0,
    "defaults": 0,
}  # fmt: skip
_BINDS = {"bind": mount.MS_BIND, "rbind": mount.MS_BIND | mount.MS_REC}
_TMPFS_KEYS = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"})


@dataclass(frozen=True, slots=True)
class Mounting:
    """What to mount at a volume's directory, for mount(2).  `bind` has MS_BIND, or is 0."""

    kind: str  # "tmpfs" or "none"
    device: str
    bind: int
    flags: int
    data: str


def check_name(name: str) -> None:
    """InvalidSpec in dockerd's words."""
    if len(name) == 1:
        raise InvalidSpec(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidSpec(
            f'create {name[:300]}: "{name[:300]}" includes invalid characters for a local volume '
            'name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host '
            "directory, use absolute path"
        )
    if len(name) > _LONGEST:
        raise InvalidSpec(
            f"create {name[:60]}...: volume name is too long, names should be at most {_LONGEST} "
            "characters"
        )


def check_driver(name: str, driver: str) -> None:
    """NotFound in dockerd's words for any driver but `local`."""
    if driver not in {"", DRIVER}:
        raise NotFound(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
        )


def mounting(name: str, options: Mapping[str, str] | None) -> Mounting | None:
    """What these options mount; None without options: a directory of the engine's own.

    InvalidSpec in dockerd's words; NotSupported for types of file systems that dockerd would hand
    to mount(2): nfs, cifs, block devices.
    """
    given = options or {}
    for option in given:
        if option not in _KNOWN:
            raise InvalidSpec(f'create {name}: invalid option: "{option}"')
        if "\0" in given[option]:
            raise InvalidSpec(f'create {name}: a NUL character in option "{option}"')
    if "size" in given:
        raise InvalidSpec(f"create {name}: quota size requested but no quota support")
    for option, needed in _NEEDS.items():
        for other in needed:
            if option in given and other not in given:
                raise InvalidSpec(f'create {name}: missing required option: "{other}"')
    if not given:
        return None
    kind, words = given["type"], [w for w in given.get("o", "").split(",") if w]
    if kind == "tmpfs":
        return _tmpfs(name, given["device"], words)
    if kind in {"none", "bind"} and _BINDS.keys() & set(words):
        return _bind(name, given["device"], words)
    raise NotSupported(
        f"create {name}: a volume of type={kind} is not supported: type=tmpfs is, and type=none "
        "with o=bind (mount what you need on the host, and bind that)"
    )


def _tmpfs(name: str, device: str, words: list[str]) -> Mounting:
    data = [w for w in words if w.partition("=")[0] in _TMPFS_KEYS and "=" in w]
    return Mounting("tmpfs", device, 0, _flags(name, [w for w in words if w not in data]),
                    ",".join(data))  # fmt: skip


def _bind(name: str, device: str, words: list[str]) -> Mounting:
    if not device.startswith("/"):
        raise InvalidSpec(f"create {name}: device {device!r} of a bind must be an absolute path")
    bind = 0
    for word in words:
        bind |= _BINDS.get(word, 0)
    return Mounting("none", device, bind, _flags(name, [w for w in words if w not in _BINDS]), "")


def _flags(name: str, words: list[str]) -> int:
    flags = 0
    for word in words:
        if word not in _FLAGS:
            raise InvalidSpec(f"create {name}: mount option {word!r} is not supported")
        flags |= _FLAGS[word]
    return flags
