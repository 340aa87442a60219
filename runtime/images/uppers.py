"""Make layers of the directories that overlayfs wrote to."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path

from netkit.errors import KernelError
from runtime.cancellation import Check, unchecked
from runtime.images.blobs import Blobs
from runtime.images.layer_pack import pack
from runtime.images.layers import Layers, StoredLayer


def adopt(
    blobs: Blobs, layers: Layers, upper: Path, check: Check = unchecked
) -> StoredLayer | None:
    """Move the directory, which is not mounted any more, into the store.

    `check` is called now and then, and may raise to end it.
    """
    if (layer := _packed(blobs, upper, (), check)) is None:
        return None
    try:
        layers.take(upper, layer.diff_id, layer.size)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise _failed(error) from error
        _copy(blobs, layers, layer)  # the images are on another file system
    return layer


def capture(
    blobs: Blobs,
    layers: Layers,
    upper: Path,
    leave_out: Collection[str],
    check: Check = unchecked,
) -> StoredLayer | None:
    """Copy the directory, which may be in use.  `leave_out`: see layer_pack; `check`: see adopt."""
    if (layer := _packed(blobs, upper, leave_out, check)) is not None:
        _copy(blobs, layers, layer)
    return layer


def _packed(
    blobs: Blobs, upper: Path, leave_out: Collection[str], check: Check
) -> StoredLayer | None:
    try:
        top = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with blobs.writer() as blob:

                def write(data: bytes) -> None:
                    check()
                    blob.write(data)

                found = pack(top, write, leave_out)
                if not found.entries:
                    return None
                digest = blob.commit()
        finally:
            os.close(top)
    except ConnectionError:  # of `check`
        raise
    except OSError as error:
        raise _failed(error) from error
    return StoredLayer(digest, digest, found.size)


def _copy(blobs: Blobs, layers: Layers, layer: StoredLayer) -> None:
    if not layers.has(layer.diff_id):
        with open(blobs.path(layer.digest), "rb") as file:
            layers.add(file, layer.diff_id)


def _failed(error: OSError) -> KernelError:
    return KernelError(f"cannot store a layer: {error.strerror}", errno=error.errno)
