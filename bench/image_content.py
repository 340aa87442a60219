"""The images and contexts that `bench.images` measures with."""

from __future__ import annotations

import json
import random
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Scale:
    repeats: int = 5
    layers: int = 5
    layer_bytes: int = 100 * MIB
    steps: int = 200
    files: int = 3000  # of a build's context
    deep: int = 30  # layers of the image that is run


QUICK = Scale(repeats=1, layers=2, layer_bytes=20 * MIB, steps=20, files=300, deep=10)


def _ballast(size: int, rng: random.Random) -> bytes:
    """Half of it random, half of it text: what a layer of programs compresses like."""
    words = [rng.randbytes(6).hex().encode() for _ in range(500)]
    text = b" ".join(rng.choice(words) for _ in range(size // 26))
    return rng.randbytes(size // 2) + text


def archive(scale: Scale, name: str) -> bytes:
    """An image of a few large layers, each of files of 256 KiB, as `docker save` writes it."""
    rng = random.Random(7)
    layers = []
    for n in range(scale.layers):
        data = _ballast(scale.layer_bytes, rng)
        out = BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for k in range(0, len(data), 256 << 10):
                part = data[k : k + (256 << 10)]
                info = tarfile.TarInfo(f"layer{n}/{k:09}")
                info.size = len(part)
                tar.addfile(info, BytesIO(part))
        layers.append(out.getvalue())
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers",
                   "diff_ids": [f"sha256:{sha256(d).hexdigest()}" for d in layers]},
    }).encode()  # fmt: skip
    files = {f"{n}/layer.tar": data for n, data in enumerate(layers)}
    manifest = json.dumps([{"Config": "c.json", "RepoTags": [name], "Layers": list(files)}])
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in {**files, "c.json": config, "manifest.json": manifest.encode()}.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    return out.getvalue()


def context(folder: Path, scale: Scale) -> Path:
    """A build as of a small web application: packages, a tree of sources, a few steps."""
    rng = random.Random(11)
    place = folder / "context"
    for n in range(scale.files):
        path = place / "src" / f"m{n % 40}" / f"f{n}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice([400, 4000, 12000])))
    (place / "packages").mkdir()
    for n in range(8):
        (place / "packages" / f"p{n}").write_bytes(rng.randbytes(4 * MIB))
    (place / "Dockerfile").write_text("""FROM busybox
ENV A=b
WORKDIR /app
COPY packages /packages
RUN mkdir -p /usr/lib && for p in /packages/*; do cp $p /usr/lib/; done
COPY src /app/src
RUN find /app -name '*.py' | while read f; do :; done; mkdir /app/static; cp -r src static/
RUN chown -R app /app/static
USER app
EXPOSE 8000
CMD ["httpd", "-f"]
""")
    return place


def steps(scale: Scale) -> bytes:
    return ("FROM busybox\n" + "".join(f"RUN : {n}\n" for n in range(scale.steps))).encode()


def fresh(path: Path, scale: Scale, salt: str) -> None:
    """The large image with one byte of each layer changed, so that no registry has it."""
    data = archive(scale, "fresh:1") if not _FRESH else _FRESH[0]
    _FRESH[:] = [data]
    layers: dict[str, bytes] = {}
    mark = sha256(salt.encode()).digest()
    with tarfile.open(fileobj=BytesIO(data)) as tar:
        for m in tar.getmembers():
            body = tar.extractfile(m)
            assert body is not None
            layers[m.name] = body.read()
    names = [n for n in layers if n.endswith("layer.tar")]
    for name in names:
        layers[name] = layers[name][:1024] + mark + layers[name][1024 + len(mark) :]
    config = json.loads(layers["c.json"])
    config["rootfs"]["diff_ids"] = [f"sha256:{sha256(layers[n]).hexdigest()}" for n in names]
    layers["c.json"] = json.dumps(config).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in layers.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))


_FRESH: list[bytes] = []
