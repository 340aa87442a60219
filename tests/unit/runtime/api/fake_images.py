"""Images of the fake engine: a configuration and a name, no layers."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from netkit.errors import InUse, InvalidSpec, NotFound
from netkit.timestamps import rfc3339
from runtime.filters import Filters
from runtime.images.importing import ImportRequest
from runtime.images.model import Image, ImageConfig


def make(name: str, seed: bytes = b"", created: str | None = None, **config: Any) -> Image:
    digest = hashlib.sha256(name.encode() + seed).hexdigest()
    return Image(
        id=f"sha256:{digest}", tags=(name,) if name else (), digests=(), size=1000,
        created=created or rfc3339(), config=ImageConfig(**config),
        layers=(f"sha256:{digest}",),
        document={"architecture": "amd64", "os": "linux", "config": {}, "seed": seed.hex()},
    )  # fmt: skip


class FakeImages:
    def __init__(self) -> None:
        self._all: list[Image] = [make("busybox:latest", cmd=["sh"])]
        self.received = 0  # bytes of the last import

    def find(self, ref: str) -> Image:
        for image in self._all:
            short = image.id.removeprefix("sha256:")
            if ref in {*image.tags, image.id} or f"{ref}:latest" in image.tags:
                return image
            if len(ref) >= 4 and short.startswith(ref.removeprefix("sha256:")):
                return image
        raise NotFound(f"No such image: {ref if ':' in ref else ref + ':latest'}")

    def all(self) -> list[Image]:
        return list(self._all)

    def shared_sizes(self, images: Sequence[Image]) -> dict[str, int]:
        return {i.id: 0 for i in self._all}

    def _replace(self, old: Image | None, *new: Image) -> None:
        ids = {i.id for i in new}
        self._all = [i for i in self._all if i is not old and i.id not in ids] + list(new)

    def import_(self, tar: BinaryIO, request: ImportRequest) -> str:
        digest, size = hashlib.sha256(), 0
        while data := tar.read(1 << 16):
            digest.update(data)
            size += len(data)
        self.received = size
        if not size:
            raise InvalidSpec("the archive is empty")
        name = f"{request.repo}:{request.tag or 'latest'}" if request.repo else ""
        image = make(name, digest.digest())
        self._replace(None, image)
        return image.id

    def load(self, tar: BinaryIO) -> Iterator[str]:
        try:
            with tarfile.open(fileobj=tar, mode="r|*") as archive:
                for member in archive:
                    if member.name != "fake.json":
                        continue
                    file = archive.extractfile(member)
                    assert file
                    for entry in json.load(file):
                        new = make(entry["tag"], bytes.fromhex(entry["seed"]), cmd=["sh"])
                        if new.id not in {i.id for i in self._all}:
                            self._replace(None, new)
                        yield f"Loaded image: {entry['tag']}"
        except tarfile.TarError as error:
            raise InvalidSpec(f"not an image archive: {error}") from error

    def save(self, refs: Sequence[str], layout: str = "docker") -> Iterator[bytes]:
        images = [self.find(ref) for ref in refs]
        entries = [{"tag": i.tags[0], "seed": i.document["seed"]} for i in images]
        buffer, data = io.BytesIO(), json.dumps(entries).encode()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            info = tarfile.TarInfo("fake.json")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        return iter([buffer.getvalue()])

    def tag(self, ref: str, repo: str, tag: str) -> None:
        old = self.find(ref)
        self._replace(old, _with(old, tags=(*old.tags, f"{repo}:{tag}")))

    def remove(self, ref: str, *, force: bool, prune: bool) -> list[dict[str, str]]:
        image = self.find(ref)
        name = ref if ref in image.tags else f"{ref}:latest"
        left = tuple(t for t in image.tags if t != name)
        if len(left) == len(image.tags):
            if len(left) > 1 and not force:
                raise InUse(f"unable to delete {ref} (must be forced): it has several names")
            left = ()
        untagged = [{"Untagged": t} for t in image.tags if t not in left]
        if left:
            self._replace(image, _with(image, tags=left))
            return untagged
        self._replace(image)
        return [*untagged, {"Deleted": image.id}]

    def history(self, ref: str) -> list[dict[str, Any]]:
        image = self.find(ref)
        return [{"Id": image.id, "Created": 1, "CreatedBy": "import", "Tags": list(image.tags),
                 "Size": image.size, "Comment": "made"}]  # fmt: skip

    def prune(self, filters: Filters) -> tuple[list[dict[str, str]], int]:
        removed = [i for i in self._all if not i.tags]
        self._all = [i for i in self._all if i.tags]
        return [{"Deleted": i.id} for i in removed], 1000 * len(removed)


def _with(image: Image, *, tags: tuple[str, ...]) -> Image:
    return Image(id=image.id, tags=tags, digests=image.digests, created=image.created,
                 size=image.size, config=image.config, layers=image.layers,
                 document=image.document)  # fmt: skip
