"""Make layers of the directories that overlayfs wrote to."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path

from netkit.errors import KernelError
from runtime.images.blobs import Blobs
from runtime.images.layer_pack import pack
from runtime.images.layers import Layers, StoredLayer


def adopt(blobs: Blobs, layers: Layers, upper: Path) -> StoredLayer | None:
    """Move the directory, which is not mounted any more, into the store."""
    if (layer := _packed(blobs, upper, ())) is None:
        return None
    try:
        layers.take(upper, layer.diff_id, layer.size)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise _failed(error) from error
        _copy(blobs, layers, layer)  # the images are on another file system
    return layer


def capture(
    blobs: Blobs, layers: Layers, upper: Path, leave_out: Collection[str]
) -> StoredLayer | None:
    """Copy the directory, which may be in use.  `leave_out`: see layer_pack."""
    if (layer := _packed(blobs, upper, leave_out)) is not None:
        _copy(blobs, layers, layer)
    return layer


def _packed(blobs: Blobs, upper: Path, leave_out: Collection[str]) -> StoredLayer | None:
    try:
        top = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with blobs.writer() as blob:
                found = pack(top, blob.write, leave_out)
                if not found.entries:
                    return None
                digest = blob.commit()
        finally:
            os.close(top)
    except OSError as error:
        raise _failed(error) from error
    return StoredLayer(digest, digest, found.size)


def _copy(blobs: Blobs, layers: Layers, layer: StoredLayer) -> None:
    if not layers.has(layer.diff_id):
        with open(blobs.path(layer.digest), "rb") as file:
            layers.add(file, layer.diff_id)


def _failed(error: OSError) -> KernelError:
    return KernelError(f"cannot store a layer: {error.strerror}", errno=error.errno)
