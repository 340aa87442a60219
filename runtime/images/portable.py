"""Images as one tar: what `docker save` writes is a docker archive and an OCI layout at once.

oci-layout, index.json      the OCI reading (image-spec image-layout.md)
manifest.json               Docker's reading: configuration, names, layers
blobs/sha256/...            shared by both
"""

from __future__ import annotations

import io
import json
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from netkit.errors import InvalidSpec
from runtime.images.compression import Unpacked
from runtime.images.configuration import MOST_BYTES, checked
from runtime.images.references import DIGEST, Reference, parse
from runtime.ports.images import Image

if TYPE_CHECKING:
    from runtime.images.store import ImageStore

_BLOCK = 1 << 20
_NAME = "io.containerd.image.name"
_TAG = "org.opencontainers.image.ref.name"


def save(store: ImageStore, images: Sequence[tuple[Image, str]]) -> Iterator[bytes]:
    """Names given by the caller go along; an image asked for by id goes with all of its names,
    or none if it was asked for by digest alone."""
    docker: list[dict[str, Any]] = []
    index: list[dict[str, Any]] = []
    blobs: dict[str, int] = {}
    for image, ref in images:
        names = [ref_name] if (ref_name := _asked(image, ref)) else list(image.tags)
        digest = store.manifest_digest(image.id)
        manifest = store.manifest(image.id)
        layers = [entry["digest"] for entry in manifest["layers"]]
        for d in (image.id, digest, *layers):
            blobs[d] = store.blobs.size(d)
        docker.append(
            {
                "Config": _blob(image.id),
                "RepoTags": names or None,
                "Layers": [_blob(d) for d in layers],
            }
        )
        entry = {
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": store.blobs.size(digest),
        }
        notes = [{_NAME: _full(n), _TAG: n.rpartition(":")[2]} for n in names]
        index += [{**entry, "annotations": n} for n in notes] or [entry]
    yield from _member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    yield from _member("index.json", _json({"schemaVersion": 2, "manifests": index}))
    yield from _member("manifest.json", _json(docker))
    for digest, size in sorted(blobs.items()):
        yield _header(_blob(digest), size)
        yield from store.blobs.stream(digest)
        yield bytes(-size % 512)
    yield bytes(1024)


def _asked(image: Image, ref: str) -> str:
    try:
        name = parse(ref).name
    except InvalidSpec:
        return ""
    return name if name in image.tags else ""


def _full(name: str) -> str:
    first = name.partition("/")[0]
    if "/" in name and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data + bytes(-len(data) % 512)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


@dataclass(frozen=True, slots=True)
class _Parts:
    """One image of an archive: names of its files in it."""

    config: str
    layers: tuple[str, ...]
    names: tuple[Reference, ...]


def load(store: ImageStore, tar: BinaryIO) -> Iterator[str]:
    """Yields what Docker prints.  InvalidSpec says what is wrong with the archive."""
    with tempfile.TemporaryDirectory(dir=store.layers.folder / "new") as folder:
        files = _spool(tar, Path(folder))
        images = _images(files)
        if not images:
            raise InvalidSpec("the archive holds no image: neither manifest.json nor index.json")
        for parts in images:
            id = _add(store, files, parts)
            for name in parts.names:
                yield f"Loaded image: {name.name}\n"
            if not parts.names:
                yield f"Loaded image ID: {id}\n"


def _spool(tar: BinaryIO, folder: Path) -> dict[str, Path]:
    """The archive's regular files by name, each under a number of ours; links resolved."""
    files: dict[str, Path] = {}
    links: dict[str, str] = {}
    source = Unpacked(tar)
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:  # type: ignore[call-overload]
            for m in archive:
                name = posixpath.normpath("/" + m.name).lstrip("/")
                if m.isreg() and (content := archive.extractfile(m)) is not None:
                    path = folder / str(len(files) + len(links))
                    with open(path, "wb") as out:
                        shutil.copyfileobj(content, out, _BLOCK)
                    files[name] = path
                elif m.issym():
                    target = posixpath.join("/", posixpath.dirname(name), m.linkname)
                    links[name] = posixpath.normpath(target).lstrip("/")
                elif m.islnk():
                    links[name] = posixpath.normpath("/" + m.linkname).lstrip("/")
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as e:
        raise InvalidSpec(f"not a valid image archive: {e}") from e
    for name, target in links.items():
        if target in files:
            files[name] = files[target]
    return files


def _images(files: Mapping[str, Path]) -> list[_Parts]:
    if "manifest.json" in files:
        return [_docker(entry) for entry in _list(_read(files, "manifest.json"))]
    if "index.json" in files:
        return list(_index(files, _read(files, "index.json"), 0))
    return []


def _docker(entry: object) -> _Parts:
    if not isinstance(entry, dict):
        raise InvalidSpec("manifest.json is malformed")
    config, layers = entry.get("Config"), entry.get("Layers") or []
    if not isinstance(config, str) or not all(isinstance(x, str) for x in layers):
        raise InvalidSpec("manifest.json is malformed: Config and Layers are names")
    names = tuple(parse(str(n)) for n in entry.get("RepoTags") or ())
    return _Parts(config, tuple(layers), names)


def _index(files: Mapping[str, Path], index: object, depth: int) -> Iterator[_Parts]:
    if not isinstance(index, dict) or depth > 3 or "config" in index or "layers" in index:
        raise InvalidSpec("index.json is malformed")
    for entry in _list(index.get("manifests")):
        if not isinstance(entry, dict):
            raise InvalidSpec("index.json is malformed")
        document = _read(files, _blob(_digest(entry)))
        if isinstance(document, dict) and "manifests" in document:
            yield from _index(files, document, depth + 1)
            continue
        if not isinstance(document, dict) or "config" not in document:
            raise InvalidSpec(f"manifest {entry.get('digest')} is malformed")
        notes = entry.get("annotations") or {}
        name = notes.get(_NAME) or (notes.get(_TAG) if ":" in notes.get(_TAG, "") else "")
        layers = tuple(_blob(_digest(x)) for x in _list(document.get("layers")))
        config = _blob(_digest(document["config"]))
        yield _Parts(config, layers, (parse(name),) if name else ())


def _digest(entry: object) -> str:
    digest = entry.get("digest") if isinstance(entry, dict) else None
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise InvalidSpec(f"the archive has a malformed digest: {digest!r}")
    return digest


def _add(store: ImageStore, files: Mapping[str, Path], parts: _Parts) -> str:
    raw = _bytes(files, parts.config)
    document = checked(_parse(raw, parts.config))
    diff_ids = document["rootfs"]["diff_ids"]
    if len(diff_ids) != len(parts.layers):
        raise InvalidSpec(
            f"{parts.config} names {len(diff_ids)} layers, and the manifest {len(parts.layers)}"
        )
    digests = []
    for name, diff_id in zip(parts.layers, diff_ids, strict=True):
        promised = name.rpartition("/")[2] if name.startswith("blobs/sha256/") else ""
        digests.append(_layer(store, _file(files, name), diff_id, promised))
    if parts.config.startswith("blobs/sha256/"):
        with store.blobs.writer() as w:
            w.write(raw)
            w.commit(f"sha256:{parts.config.rpartition('/')[2]}")
    return store.add(raw, digests, parts.names)


def _layer(store: ImageStore, path: Path, diff_id: str, promised: str) -> str:
    with open(path, "rb") as file, store.blobs.writer() as blob:
        while data := file.read(_BLOCK):
            blob.write(data)
        digest = blob.commit(f"sha256:{promised}" if promised else "")
    if not store.layers.has(diff_id):
        with open(path, "rb") as file:
            store.layers.add(file, diff_id)
    return digest


def _file(files: Mapping[str, Path], name: str) -> Path:
    clean = posixpath.normpath("/" + name).lstrip("/")
    if clean not in files:
        raise InvalidSpec(f"the archive promises {name} and does not hold it")
    return files[clean]


def _bytes(files: Mapping[str, Path], name: str) -> bytes:
    path = _file(files, name)
    if path.stat().st_size > MOST_BYTES:
        raise InvalidSpec(f"{name} is over {MOST_BYTES} bytes long")
    return path.read_bytes()


def _read(files: Mapping[str, Path], name: str) -> object:
    return _parse(_bytes(files, name), name)


def _parse(data: bytes, name: str) -> object:
    try:
        return json.load(io.BytesIO(data))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InvalidSpec(f"{name} is not JSON: {e}") from e


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise InvalidSpec("the archive is malformed: a list is missing")
    return value
