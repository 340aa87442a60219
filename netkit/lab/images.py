"""Images of a lab: Debian's static busybox, its applets, and what lab.yml adds.

The archive is made once a machine and content, and then read from disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from netkit.errors import NotFound
from netkit.lab.model import Image

BINARY = Path("/bin/busybox")
EPOCH = 1_700_000_000  # layer times are fixed: the same content has the same id
FOLDERS = ("bin", "dev", "etc", "proc", "root", "sys", "var/log", "www", "tmp")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "www/index.html": "<h1>hello from a container</h1>\n",
}
CHANGES = (
    'CMD ["sh"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)


def archive(image: Image, folder: str) -> Path:
    """The tar archive of its root file system, made if it is not there.

    NotFound if this machine has no static busybox.
    """
    if not BINARY.exists():
        raise NotFound(f"{BINARY} is missing: install the Debian package busybox-static")
    status = BINARY.stat()
    facts = [status.st_size, status.st_mtime_ns, FILES, dict(image.files)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(folder) / f"busybox-{digest}.tar"
    if not path.exists():
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(fd, "wb") as out:
            out.write(_rootfs({**FILES, **image.files}))
        os.replace(temporary, path)
    return path


def _rootfs(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    listing = subprocess.run(
        [str(BINARY), "--list"], check=True, capture_output=True, text=True, timeout=10
    )
    binary = BINARY.read_bytes()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in FOLDERS:
            mode = 0o1777 if folder == "tmp" else 0o755
            tar.addfile(_entry(folder, mode, tarfile.DIRTYPE))
        _file(tar, "bin/busybox", binary, 0o755)
        for applet in sorted(set(listing.stdout.split()) - {"busybox"}):
            link = _entry(f"bin/{applet}", 0o777, tarfile.SYMTYPE)
            link.linkname = "busybox"
            tar.addfile(link)
        for name, text in sorted(files.items()):
            mode = 0o755 if text.startswith("#!") else 0o644
            _file(tar, name.lstrip("/"), text.encode(), mode)
    return out.getvalue()


def _file(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = _entry(name, mode)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.mtime = mode, kind, EPOCH
    return entry
