"""The root file system of Debian's static busybox as a tar archive: equal for equal busyboxes."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from netkit.errors import InvalidSpec, NotFound

BINARY = Path("/bin/busybox")
EPOCH = 1_700_000_000  # layer times are fixed: the same content has the same digest
FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "var/log", "www", "tmp")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
CHANGES = (
    'CMD ["sh"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
_PACKAGE = "install the Debian package busybox-static"
_INTERPRETER = 3  # PT_INTERP of an ELF program header: the dynamic linker it needs


def present(binary: Path = BINARY) -> os.stat_result:
    """Its status.  NotFound if this machine has no busybox."""
    if not binary.exists():
        raise NotFound(f"{binary} is missing: {_PACKAGE}")
    return binary.stat()


def rootfs(files: Mapping[str, str] = FILES, binary: Path = BINARY) -> bytes:
    """An uncompressed archive: busybox, a link for each applet, and files (path to text).

    NotFound without busybox, InvalidSpec for one that is not static: nothing else is in the image.
    """
    present(binary)
    data = binary.read_bytes()
    if needs_linker(data):
        raise InvalidSpec(f"{binary} is not static: {_PACKAGE}")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in FOLDERS:
            mode = 0o1777 if folder == "tmp" else 0o755
            tar.addfile(_entry(folder, mode, tarfile.DIRTYPE))
        _file(tar, "bin/busybox", data, 0o755)
        for applet in sorted(set(_applets(binary)) - {"busybox"}):
            link = _entry(f"bin/{applet}", 0o777, tarfile.SYMTYPE)
            link.linkname = "busybox"
            tar.addfile(link)
        for name, text in sorted(files.items()):
            mode = 0o755 if text.startswith("#!") else 0o644
            _file(tar, name.lstrip("/"), text.encode(), mode)
    return out.getvalue()


def needs_linker(program: bytes) -> bool:
    """Whether an ELF program has PT_INTERP."""
    if program[:4] != b"\x7fELF":
        return False
    wide = program[4] == 2
    order = "little" if program[5] == 1 else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(program[at : at + size], order)  # type: ignore[arg-type]

    start = number(32, 8) if wide else number(28, 4)
    size, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
    return any(number(start + n * size, 4) == _INTERPRETER for n in range(count))


def _applets(binary: Path) -> list[str]:
    done = subprocess.run(
        [str(binary), "--list"], check=True, capture_output=True, text=True, timeout=10
    )
    return done.stdout.split()


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = _entry(name, mode)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.mtime = mode, kind, EPOCH
    return entry
