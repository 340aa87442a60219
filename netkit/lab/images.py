"""Images of a lab: static busybox with what lab.yml adds, or a Debian by debootstrap.

An archive is made once a machine and content, and then read from disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netkit.bootstrap import busybox, debian
from netkit.bootstrap.isolation import Say
from netkit.bootstrap.request import Request, split
from netkit.lab.model import Image

BINARY = busybox.BINARY
FILES = {**busybox.FILES, "www/index.html": "<h1>hello from a container</h1>\n"}
CACHE = "NETKIT_BOOTSTRAP_CACHE"  # a variable: another folder for what debootstrap made


@contextmanager
def archive(image: Image, folder: str, say: Say) -> Iterator[Path]:
    """The tar archive of its root file system, made if `folder` does not have it.

    NotFound if this machine lacks static busybox, or debootstrap and what that needs.
    """
    if not image.bootstrap:
        yield _busybox(image, Path(folder))
        return
    with debian.archive(_request(image), Path(os.environ.get(CACHE) or folder), say=say) as file:
        yield file


def changes(image: Image) -> list[str]:
    first = debian.CHANGES if image.bootstrap else busybox.CHANGES
    return [*first, *image.changes]


def _request(image: Image) -> Request:
    distribution, suite = split(image.bootstrap)
    return Request(
        distribution=distribution, suite=suite, include=image.include, packages=image.packages
    )


def _busybox(image: Image, folder: Path) -> Path:
    status = busybox.present(BINARY)
    facts = [status.st_size, status.st_mtime_ns, FILES, dict(image.files)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"busybox-{digest}.tar"
    if not path.exists():
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(fd, "wb") as out:
            out.write(busybox.rootfs({**FILES, **image.files}, BINARY))
        os.replace(temporary, path)
    return path
