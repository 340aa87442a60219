"""Load images from a tar: docker archives of any version, and OCI layouts.

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md; see also `archive`.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from msgspec import field

from netkit.errors import InvalidSpec
from runtime import limits, untrusted
from runtime.apitypes import Upload
from runtime.images import config as configuration
from runtime.images import legacy
from runtime.images.contents import ImageContents
from runtime.images.reference import DIGEST, Reference, parse
from runtime.tar import header as tar
from runtime.tar.compression import Unpacked
from runtime.tar.members import refusal, write_hashed
from runtime.tar.stream import Tar, whole

T = TypeVar("T")

_NAME = "io.containerd.image.name"
_TAG = "org.opencontainers.image.ref.name"


class _Entry(msgspec.Struct):
    """One entry of manifest.json."""

    config: str = field(name="Config")
    layers: list[str] | None = field(name="Layers", default=None)
    names: list[str] | None = field(name="RepoTags", default=None)
    parent: str | None = field(name="Parent", default=None)


class _Platform(msgspec.Struct):
    os: str | None = None


class _Descriptor(msgspec.Struct):
    digest: str
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None


class _Index(msgspec.Struct):
    manifests: list[_Descriptor]


class _Manifest(msgspec.Struct):
    config: _Descriptor
    layers: list[_Descriptor] | None = None


@dataclass(frozen=True, slots=True)
class _Parts:
    """One image of an archive, by the names of its files."""

    config: str
    layers: tuple[str, ...]
    names: tuple[Reference, ...]
    parent: str = ""  # id of the image that it was made from, if the archive has that, too


class _Spooled:
    """A spooled file of the archive.  ConnectionResetError once the client has disconnected."""

    def __init__(self, file: BinaryIO, upload: Upload) -> None:
        self._file, self._upload = file, upload

    def read(self, size: int = -1, /) -> bytes:
        self._upload.check()
        return self._file.read(size)


def load(store: ImageContents, upload: Upload) -> Iterator[str]:
    """Load all images; yields the lines that Docker prints.  InvalidSpec for a bad archive."""
    with tempfile.TemporaryDirectory(dir=store.layers.folder / "new") as folder:
        files = _spool(upload, Path(folder))  # all of it: members may be in any order
        images = _images(files)
        parents: dict[str, str] = {}
        for parts in images:
            id = yield from _load(store, parts.names, partial(_add, store, upload, files, parts))
            parents[id] = parts.parent
        if images:
            _link(store, parents)
            return
        if "repositories" not in files:
            raise InvalidSpec(
                "the archive holds no image: neither manifest.json, index.json nor repositories"
            )
        layer = partial(_unnamed, store, upload, files)
        adding = legacy.Adding(store, partial(_read, files), layer)
        for image in legacy.images(files, partial(_read, files)):
            yield from _load(store, image.names, partial(adding.add, image), old=True)


def _load(
    store: ImageContents,
    names: Sequence[Reference],
    add: Callable[[], str],
    *,
    old: bool = False,
) -> Generator[str, None, str]:
    before = {name: store.named(name) for name in names}
    id = add()
    store.events.happened("load", id)
    for name in names:
        if before[name] not in {"", id}:
            yield (
                f"The image {name.name} already exists, renaming the old one with ID "
                f"{before[name]} to empty string\n"
            )
        if not old:  # of those Docker says no more
            yield f"Loaded image: {name.name}\n"
    if not names and not old:
        yield f"Loaded image ID: {id}\n"
    return id


def _link(store: ImageContents, parents: Mapping[str, str]) -> None:
    """Record parents that the archive has, too, if they are what it says: InvalidSpec."""
    for id, parent in parents.items():
        if parent in parents and parent != id:
            steps = store.document(id).get("history") or []
            below = store.document(parent).get("history") or []
            if (steps or below) and (len(steps) != len(below) + 1 or steps[:-1] != below):
                raise InvalidSpec(f"image {parent} is not a valid parent for {id}")
            store.set_parent(id, parent)


def _spool(upload: Upload, folder: Path) -> dict[str, Path]:
    """Write the archive's regular files to `folder`; paths by name, links resolved.

    Names there are NUMBER.DIGEST: names from the archive are never used as paths, and nothing needs
    to be read again for its digest.
    """
    files: dict[str, Path] = {}
    links: dict[str, str] = {}
    numbers = count()
    with whole(), Unpacked(upload) as source:
        for m in (archive := Tar(source)):
            name = _clean(m.name)
            if len(files) + len(links) >= limits.LOAD_FILES:
                raise InvalidSpec(f"the archive has more than {limits.LOAD_FILES} files: refused")
            if m.kind == tar.REGULAR:
                path = folder / str(next(numbers))
                try:
                    with open(path, "xb", buffering=0) as out:
                        path = path.rename(f"{path}.{write_hashed(out, archive, m)}")
                    if name in files:  # as with tar: the last member of a name wins
                        files[name].unlink()
                except OSError as e:
                    raise refusal(e, m.name) from e
                files[name] = path
            elif m.kind == tar.SYMLINK:
                links[name] = _clean(posixpath.join("/", posixpath.dirname(name), m.link))
            elif m.kind == tar.HARDLINK:
                links[name] = _clean(m.link)
        source.drain()
    for name, target in links.items():
        if target in files:
            files[name] = files[target]
    return files


def _clean(name: str) -> str:
    if len(name) > limits.LOAD_NAME_BYTES:
        raise InvalidSpec(f"a name in the archive is too long: {name[:60]!r}...")
    return posixpath.normpath("/" + name).lstrip("/")


def _images(files: Mapping[str, Path]) -> list[_Parts]:
    if "manifest.json" in files:
        entries = _convert(_read(files, "manifest.json"), list[_Entry], "manifest.json")
        return [
            _Parts(
                e.config,
                tuple(e.layers or ()),
                tuple(parse(n) for n in e.names or ()),
                e.parent or "",
            )
            for e in entries
        ]
    if "index.json" in files:
        return list(_index(files, _read(files, "index.json"), "index.json", 0))
    return []


def _index(files: Mapping[str, Path], document: object, name: str, depth: int) -> Iterator[_Parts]:
    if depth > limits.INDEX_DEPTH:
        raise InvalidSpec(f"{name}: indexes are nested more than {limits.INDEX_DEPTH} deep")
    # Ambiguous: other tools might read another image from it (CVE-2021-41190).
    if isinstance(document, dict) and ("config" in document or "layers" in document):
        raise InvalidSpec(f"{name} is malformed: an index and a manifest at once")
    for entry in _convert(document, _Index, name).manifests:
        if entry.platform is not None and entry.platform.os == "unknown":
            continue  # an attestation, not an image
        inner = _blob(entry)
        found = _read(files, inner)
        if isinstance(found, dict) and "manifests" in found:
            yield from _index(files, found, inner, depth + 1)
            continue
        manifest = _convert(found, _Manifest, inner)
        notes = entry.annotations or {}
        tag = notes.get(_TAG, "")
        image = notes.get(_NAME) or (tag if ":" in tag else "")
        layers = tuple(_blob(layer) for layer in manifest.layers or ())
        yield _Parts(_blob(manifest.config), layers, (parse(image),) if image else ())


def _blob(entry: _Descriptor) -> str:
    if not DIGEST.fullmatch(entry.digest):
        raise InvalidSpec(f"the archive has a malformed digest: {entry.digest[:100]!r}")
    return f"blobs/sha256/{entry.digest.removeprefix('sha256:')}"


def _add(store: ImageContents, upload: Upload, files: Mapping[str, Path], parts: _Parts) -> str:
    raw = _bytes(files, parts.config)
    diff_ids = configuration.layers_of(configuration.parse(raw, parts.config[:200]))
    if len(diff_ids) != len(parts.layers):
        raise InvalidSpec(
            f"{parts.config} names {len(diff_ids)} layers, and the manifest {len(parts.layers)}"
        )
    digests = []
    for name, diff_id in zip(parts.layers, diff_ids, strict=True):
        digests.append(_layer(store, upload, _file(files, name), diff_id, _promised(name)))
    if promised := _promised(parts.config):  # the image's id: must be the document's digest
        with store.blobs.writer() as w:
            w.write(raw)
            w.commit(promised)
    return store.add(raw, digests, parts.names)


def _unnamed(
    store: ImageContents, upload: Upload, files: Mapping[str, Path], name: str
) -> tuple[str, str]:
    """(diff id, digest of the blob) of a layer whose diff id the archive does not say."""
    path = _file(files, name)
    with whole(), open(path, "rb") as file:
        diff_id = store.layers.add(_Spooled(file, upload))
    return diff_id, _layer(store, upload, path, diff_id, "")


def _promised(name: str) -> str:
    """The digest that the name of a blob implies; "" for other files."""
    return f"sha256:{name.rpartition('/')[2]}" if name.startswith("blobs/sha256/") else ""


def _layer(store: ImageContents, upload: Upload, path: Path, diff_id: str, promised: str) -> str:
    if not path.suffix:
        raise InvalidSpec("the archive has a layer that consists of holes: refused")
    digest = f"sha256:{path.suffix[1:]}"
    if promised not in {"", digest}:
        raise InvalidSpec(f"content has digest {digest}, expected {promised}")
    store.blobs.link(path, digest)
    if not store.layers.has(diff_id):
        with whole(), open(path, "rb") as file:
            store.layers.add(_Spooled(file, upload), diff_id)
    return digest


def _file(files: Mapping[str, Path], name: str) -> Path:
    clean = _clean(name)
    if clean not in files:
        raise InvalidSpec(f"the archive has no file {name!r}, to which it refers")
    return files[clean]


def _bytes(files: Mapping[str, Path], name: str) -> bytes:
    path = _file(files, name)
    if path.stat().st_size > limits.DOCUMENT_BYTES:
        raise InvalidSpec(f"{name} is over {limits.DOCUMENT_BYTES} bytes long")
    return path.read_bytes()


def _read(files: Mapping[str, Path], name: str) -> object:
    return untrusted.decode(_bytes(files, name), name)


def _convert(value: object, kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        raise InvalidSpec(f"{name} is malformed: {e}") from e
