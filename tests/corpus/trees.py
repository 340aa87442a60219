"""Trees of files as cases describe them, as archives and on disk."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MTIME = 1500000000  # of files that have none
_BASE_FOLDERS = (
    "bin", "sbin", "etc", "proc", "sys", "dev", "root", "usr", "usr/bin", "usr/sbin", "var",
    "var/log", "home",
)  # fmt: skip
_PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "app:x:1500:1600:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
)
_GROUP = "root:x:0:\ndaemon:x:1:\nstaff:x:50:app\napp:x:1600:\nnobody:x:65534:\n"

Tree = Mapping[str, Any]


def node(spec: Any) -> dict[str, Any]:
    return {"content": spec} if isinstance(spec, str) else dict(spec)


def content(found: Mapping[str, Any]) -> bytes:
    if "tar" in found:
        data = compressed(make_tar(found["tar"], found.get("order")), found.get("compress"))
        return data[: found["cut"]] if "cut" in found else data
    if "b64" in found:
        return base64.b64decode(found["b64"])
    if "repeat" in found:
        return found["repeat"][0].encode() * found["repeat"][1]
    return str(found.get("content", "")).encode()


def compressed(data: bytes, kind: str | None) -> bytes:
    match kind:
        case "gz":
            return gzip.compress(data, mtime=0)
        case "bz2":
            return bz2.compress(data)
        case "xz":
            return lzma.compress(data)
        case "lzma":
            return lzma.compress(data, format=lzma.FORMAT_ALONE)
        case "zst":
            done = subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True)
            return done.stdout
        case "Z":
            return b"\x1f\x9d\x90" + data
    return data


def make_tar(tree: Tree, order: Iterable[str] | None = None) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in order or tree:
            info, data = _member(path, node(tree[path]))
            tar.addfile(info, io.BytesIO(data) if data is not None else None)
    return raw.getvalue()


def _member(path: str, found: Mapping[str, Any]) -> tuple[tarfile.TarInfo, bytes | None]:
    is_folder = path.endswith("/")
    info = tarfile.TarInfo(path.rstrip("/") or ".")
    info.mtime = found.get("mtime", MTIME)
    info.uid, info.gid = found.get("uid", 0), found.get("gid", 0)
    info.uname, info.gname = found.get("uname", ""), found.get("gname", "")
    info.mode = int(str(found["mode"]), 8) if "mode" in found else 0o755 if is_folder else 0o644
    for name, value in found.get("xattr", {}).items():
        info.pax_headers[f"SCHILY.xattr.{name}"] = value
    if is_folder:
        info.type = tarfile.DIRTYPE
    elif "link" in found:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, found["link"], 0o777
    elif "hard" in found:
        info.type, info.linkname = tarfile.LNKTYPE, found["hard"]
    elif "fifo" in found:
        info.type = tarfile.FIFOTYPE
    elif "dev" in found:
        info.type, (info.devmajor, info.devminor) = tarfile.CHRTYPE, found["dev"]
    else:
        data = content(found)
        info.size = len(data)
        return info, data
    return info, None


def make_folder(tree: Tree, root: Path) -> None:
    for path, spec in tree.items():
        found, place = node(spec), root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        elif "link" in found:
            place.symlink_to(found["link"])
        elif "hard" in found:
            os.link(root / found["hard"], place)
        elif "fifo" in found:
            os.mkfifo(place)
        else:
            place.write_bytes(content(found))
    for path, spec in reversed(list(tree.items())):
        found, place = node(spec), root / path
        if "link" in found:
            continue
        os.chown(place, found.get("uid", 0), found.get("gid", 0))
        place.chmod(int(str(found.get("mode", "755" if path.endswith("/") else "644")), 8))
        for name, value in found.get("xattr", {}).items():
            os.setxattr(place, name, value.encode())
        os.utime(place, (found.get("mtime", MTIME),) * 2)


def base() -> bytes:
    """The archive of the base image: busybox, and some users."""
    busybox = shutil.which("busybox") or "/bin/busybox"
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    tree: dict[str, Any] = {f"{name}/": {} for name in _BASE_FOLDERS}
    tree["tmp/"] = {"mode": "1777"}
    raw = base64.b64encode(Path(busybox).read_bytes())
    tree["bin/busybox"] = {"b64": raw, "mode": "755"}
    for applet in listed.stdout.split():
        if applet != "busybox":
            tree[f"bin/{applet}"] = {"link": "busybox"}
    return make_tar({**tree, "etc/passwd": _PASSWD, "etc/group": _GROUP})
