"""The uncompressed tar of a stored layer."""

from __future__ import annotations

from collections.abc import Iterator

from netkit.errors import KernelError
from runtime.images.blobs import BLOCK, Blobs
from runtime.images.layers import Layers
from runtime.tar.compression import Unpacked


def layer_tar(
    blobs: Blobs, layers: Layers, digest: str, diff_id: str
) -> tuple[int, Iterator[bytes]]:
    """(bytes, content) of the layer whose blob is `digest`."""
    if digest == diff_id:
        return blobs.size(digest), blobs.stream(digest)
    size = layers.tar_size(diff_id)
    if size is None:  # unpacked by an older daemon, which did not note it
        with open(blobs.path(digest), "rb") as file, Unpacked(file) as source:
            source.drain()
            size = source.given
    return size, _unpacked(blobs, digest, size)


def _unpacked(blobs: Blobs, digest: str, size: int) -> Iterator[bytes]:
    with open(blobs.path(digest), "rb") as file, Unpacked(file) as source:
        while data := source.read(BLOCK):
            yield data
        if source.given != size:  # the header has gone out: the archive must not look complete
            raise KernelError(f"blob {digest} in the image store is damaged")
