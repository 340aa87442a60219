"""Store content by digest: the blobs of an OCI image layout on disk.

A blob is written to a temporary file and renamed: a name never refers to a partial file.  What is
not on the disk yet when the host goes down is of no image then: see ImageStore.add.
https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from netkit.errors import InvalidSpec, NotFound
from runtime.images.reference import DIGEST

BLOCK = 1 << 18


class BlobWriter:
    """Writes a new blob: `write`, then `commit`, which returns its digest.  Context manager."""

    def __init__(self, folder: Path, incoming: Path) -> None:
        self._folder = folder
        self._path = incoming / secrets.token_hex(8)
        self._file: BinaryIO = open(  # noqa: SIM115  closed by __exit__
            os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        )
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """What was written can be read by a `reader` from now on."""
        self._file.flush()

    def reader(self) -> BinaryIO:
        """The file, to be read while it is written, and after it was stored."""
        return open(self._path, "rb", buffering=0)

    def commit(self, expected: str = "") -> str:
        """Store the blob.  InvalidSpec if its digest is not `expected`."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected and digest != expected:
            raise InvalidSpec(f"content has digest {digest}, expected {expected}")
        self._file.flush()
        self._path.rename(self._folder / digest.removeprefix("sha256:"))
        return digest

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


class Blobs:
    def __init__(self, root: Path) -> None:
        self.folder, self.incoming = root / "blobs" / "sha256", root / "incoming"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(self.folder)
        self.incoming.mkdir(mode=0o700, exist_ok=True)
        layout = root / "oci-layout"
        if not layout.exists():
            layout.write_text('{"imageLayoutVersion": "1.0.0"}\n')
        layout.chmod(0o600)

    def path(self, digest: str) -> Path:
        """Path of a blob.  InvalidSpec for a malformed digest, which must not become a path."""
        if not DIGEST.fullmatch(digest):
            raise InvalidSpec(f"invalid digest {digest!r}")
        return self.folder / digest.removeprefix("sha256:")

    def writer(self) -> BlobWriter:
        return BlobWriter(self.folder, self.incoming)

    def link(self, path: Path, digest: str) -> None:
        """Store a finished file of the same file system, whose content has the digest."""
        path.chmod(0o600)
        with suppress(FileExistsError):
            os.link(path, self.path(digest))

    def put(self, data: bytes) -> str:
        with self.writer() as w:
            w.write(data)
            return w.commit()

    def put_json(self, document: object) -> str:
        return self.put(encoded(document))

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    def get(self, digest: str) -> bytes:
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"blob {digest} is missing from the image store") from None
        if hashlib.sha256(data).hexdigest() != digest.removeprefix("sha256:"):
            raise NotFound(f"blob {digest} in the image store is damaged")
        return data

    def stream(self, digest: str) -> Iterator[bytes]:
        with open(self.path(digest), "rb") as file:
            while data := file.read(BLOCK):
                yield data

    def all(self) -> set[str]:
        return {f"sha256:{p.name}" for p in self.folder.iterdir()}

    def tidy(self) -> None:
        """Remove partial files that failed writes or a killed daemon left."""
        for left in self.incoming.iterdir():
            left.unlink()

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)


def _make_private(folder: Path) -> None:
    """Restrict modes of blobs by older daemons; the parent's mode marks that this was done."""
    if stat.S_IMODE(folder.parent.stat().st_mode) != 0o700:
        for path in folder.iterdir():
            path.chmod(0o600)
        folder.parent.chmod(0o700)


def encoded(document: object) -> bytes:
    """Encode a document as canonical JSON: equal values give equal bytes, and digests."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
