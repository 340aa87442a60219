"""The test image: Debian's static busybox, its applet links, two users and a web page."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
PAGE = "hello from the engine\n"
EPOCH = 1_700_000_000  # layer times are fixed, so that the image id is the same in every run

# `import -c` lines that make the image runnable without arguments.
CHANGES = (
    'CMD ["sh"]',
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)

FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "app:x:1000:1001:An application:/home/app:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/bin/false\n"
    ),
    "etc/group": "root:x:0:\ndaemon:x:1:\nstaff:x:50:app\napps:x:1001:\nnogroup:x:65534:\n",
    "www/index.html": PAGE,
    "data/one": "1\n",
    "data/two": "22\n",
    "not-executable": "echo no\n",
}
FOLDERS = ("bin", "dev", "etc", "home/app", "proc", "root", "sys", "var/log", "www", "data")


def _entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.mtime = mode, kind, EPOCH
    return entry


def rootfs() -> bytes:
    """An uncompressed tar of the root file system, about 2 MB; equal for equal busyboxes."""
    out = io.BytesIO()
    binary = BUSYBOX.read_bytes()
    applets = subprocess.run(
        [str(BUSYBOX), "--list"], check=True, capture_output=True, text=True
    ).stdout.split()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in FOLDERS:
            tar.addfile(_entry(folder, 0o755, tarfile.DIRTYPE))
        tar.addfile(_entry("tmp", 0o1777, tarfile.DIRTYPE))
        busybox = _entry("bin/busybox", 0o755)
        busybox.size = len(binary)
        tar.addfile(busybox, io.BytesIO(binary))
        for applet in applets:
            if applet != "busybox":
                link = _entry(f"bin/{applet}", 0o777, tarfile.SYMTYPE)
                link.linkname = "busybox"
                tar.addfile(link)
        for name, text in FILES.items():
            entry = _entry(name, 0o644)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()
