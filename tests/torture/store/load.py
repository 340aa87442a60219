"""Clients that fill an engine's store, and what each has been promised.

Every image and every volume has a marker: a file whose content is known.  A client is sequential:
when the engine ends, at most one request of each client is open, and that may have gone either way.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import docker

from tests.engine.daemon import Engine
from tests.engine.wire import run

BASE = "busybox:latest"
MARKER = "marker"  # the file's name, in the root of an image or volume
KEPT = 12  # images and volumes a client keeps: it removes others, so that the disk suffices
ACTS = ("load", "import_", "commit", "build", "volume", "pull")
REGISTRY = "127.0.0.1:5000"
PULLED = 6  # images a client finds in the registry
# What is said when the disk is full; the last by a shell in a build, which cannot write.
FULL = ("no space left on device", "disk is full", "returned a non-zero code")


@dataclass
class Ledger:
    """What the engine acknowledged: content of the marker by name, None for what was removed."""

    images: dict[str, str | None] = field(default_factory=dict)
    volumes: dict[str, str | None] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # names that a request is about just now
    acknowledged: int = 0
    refused: int = 0  # requests: the disk was full
    lock: threading.Lock = field(default_factory=threading.Lock)

    def copy(self) -> Ledger:
        with self.lock:
            return Ledger(
                dict(self.images), dict(self.volumes), set(self.open), self.acknowledged,
                self.refused,
            )  # fmt: skip

    def settled(self, later: Ledger) -> Ledger:
        """What was promised here, and is not touched by a request that `later` knows of."""
        both = self.copy()
        for mine, theirs in ((both.images, later.images), (both.volumes, later.volumes)):
            for name in list(mine):
                if name in self.open | later.open or theirs.get(name) != mine[name]:
                    del mine[name]
        return both


def of_client(name: str, number: int) -> bool:
    return name.rpartition("/")[2].startswith(f"w{number}-")


def pulled_name(client: int, number: int) -> str:
    return f"{REGISTRY}/w{client}-p{number}"


def pulled_marker(client: int, number: int) -> str:
    return f"pulled-{client}-{number}"


def published(netns: str, clients: int) -> None:
    """Put the images that clients pull into the registry of the namespace, by skopeo."""
    rng = random.Random(3)
    with tempfile.TemporaryDirectory() as folder:
        for client in range(clients):
            for number in range(PULLED):
                name = pulled_name(client, number)
                file = Path(folder, "image.tar")
                marker = pulled_marker(client, number)
                file.write_bytes(_archive(f"{name}:latest", marker, rng.randbytes(300_000)))
                run(netns, "skopeo", "copy", "--dest-tls-verify=false", f"docker-archive:{file}",
                    f"docker://{name}:latest")  # fmt: skip


def _tar(files: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), (modes or {}).get(name, 0o644)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Client:
    """Does random things in sequence until `over` is set or the engine ends."""

    def __init__(self, engine: Engine, number: int, rng: random.Random, ledger: Ledger) -> None:
        self.engine, self.number, self.rng, self.ledger = engine, number, rng, ledger
        self.failures: list[str] = []
        self._count = 0
        self.full_allowed = False

    def work(self, over: threading.Event) -> None:
        api = docker.APIClient(base_url=self.engine.host, version="1.41", timeout=60)
        try:
            while not over.is_set() and self._step(api, over):
                pass
        finally:
            api.close()

    def _step(self, api: docker.APIClient, over: threading.Event) -> bool:
        act = self.rng.choice(self._choices())
        try:
            act(api)
        except docker.errors.APIError as error:
            return self._refused(act.__name__, str(error))
        except docker.errors.BuildError as error:
            return self._refused(act.__name__, str(error))
        except Refused as error:
            return self._refused(act.__name__, str(error))
        except Exception as error:  # docker-py lets through what its libraries raise
            if not over.is_set() and self.engine.running():
                self.failures.append(f"{act.__name__}: connection lost: {error!r}")
            return False
        return True

    def _refused(self, what: str, why: str) -> bool:
        # A whole answer: the engine was alive.
        if self.full_allowed and any(word in why.lower() for word in FULL):
            with self.ledger.lock:
                self.ledger.refused += 1
            return True
        self.failures.append(f"{what}: {why}")
        return False

    def _choices(self) -> list[Callable[[docker.APIClient], None]]:
        mine = [n for n in self._mine(self.ledger.images)]
        adding = [getattr(self, act) for act in ACTS]
        return [self.remove_image] * len(adding) if len(mine) > KEPT else adding

    def _mine(self, book: Mapping[str, str | None]) -> list[str]:
        with self.ledger.lock:
            return [n for n, c in book.items() if c and of_client(n, self.number)]

    # requests

    def pull(self, api: docker.APIClient) -> None:
        """One that it has not, of those that `published` put into the registry."""
        have = self._mine(self.ledger.images)
        left = [n for n in range(PULLED) if pulled_name(self.number, n) not in have]
        if not left:
            return self.import_(api)
        number = self.rng.choice(left)
        name = pulled_name(self.number, number)
        with _Open(self.ledger, name):
            for found in api.pull(name, tag="latest", stream=True, decode=True):
                if "error" in found:
                    raise Refused(found["error"])
            self._done(self.ledger.images, name, pulled_marker(self.number, number))

    def load(self, api: docker.APIClient) -> None:
        with self._new(self.ledger.images) as (name, text):
            api_load(api, _archive(f"{name}:latest", text, self._blob()))
            self._done(self.ledger.images, name, text)

    def import_(self, api: docker.APIClient) -> None:
        with self._new(self.ledger.images) as (name, text):
            data = _tar({MARKER: text.encode(), "ballast": self._blob()})
            said = api.import_image_from_data(data, repository=name)
            _check(said)
            self._done(self.ledger.images, name, text)

    def commit(self, api: docker.APIClient) -> None:
        with self._new(self.ledger.images) as (name, text):
            container = api.create_container(BASE, ["true"], name=f"c-{name}")["Id"]
            try:
                api.put_archive(container, "/", _tar({MARKER: text.encode()}))
                api.commit(container, repository=name)
                self._done(self.ledger.images, name, text)
            finally:
                api.remove_container(container, v=True, force=True)

    def build(self, api: docker.APIClient) -> None:
        with self._new(self.ledger.images) as (name, text):
            lines = f"FROM {BASE}\nENV A={text}\nCOPY {MARKER} /\nRUN echo {text} >/ran\n"
            context = _tar({MARKER: text.encode(), "Dockerfile": lines.encode()})
            for found in api.build(
                fileobj=io.BytesIO(context), custom_context=True, tag=name, decode=True, rm=True,
                forcerm=True,
            ):  # fmt: skip
                if "error" in found:
                    raise Refused(found["error"])
            self._done(self.ledger.images, name, text)

    def volume(self, api: docker.APIClient) -> None:
        """First use of a volume copies what the image has there."""
        images = self._mine(self.ledger.images)
        if not images:
            return self.import_(api)
        source = self.rng.choice(images)
        text = self.ledger.images[source]
        assert text is not None
        with self._new(self.ledger.volumes) as (name, _):
            binds = api.create_host_config(binds=[f"{name}:/kept"])
            lines = f"FROM {BASE}\nCOPY {MARKER} /kept/\n"
            context = _tar({MARKER: text.encode(), "Dockerfile": lines.encode()})
            for found in api.build(
                fileobj=io.BytesIO(context), custom_context=True, tag=f"v-{name}", decode=True,
                rm=True, forcerm=True,
            ):  # fmt: skip
                if "error" in found:
                    raise Refused(found["error"])
            container = api.create_container(f"v-{name}", ["true"], host_config=binds)["Id"]
            self._done(self.ledger.volumes, name, text)
            api.remove_container(container, force=True)
            api.remove_image(f"v-{name}", force=True)

    def remove_image(self, api: docker.APIClient) -> None:
        name = self.rng.choice(self._mine(self.ledger.images))
        with _Open(self.ledger, name):
            api.remove_image(name, force=True)
            self._done(self.ledger.images, name, None)

    def _new(self, book: dict[str, str | None]) -> _New:
        self._count += 1
        kind = "v" if book is self.ledger.volumes else "i"
        name = f"w{self.number}-{kind}{self._count}-{self.rng.getrandbits(32):08x}"
        return _New(self.ledger, name, f"{self.rng.getrandbits(64):016x}")

    def _done(self, book: dict[str, str | None], name: str, text: str | None) -> None:
        with self.ledger.lock:
            book[name] = text
            self.ledger.acknowledged += 1

    def _blob(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([100, 10_000, 400_000]))


class Refused(Exception):
    """An error in a stream of progress."""


class _Open:
    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger, self._name = ledger, name

    def __enter__(self) -> object:
        with self._ledger.lock:
            self._ledger.open.add(self._name)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._ledger.lock:
            self._ledger.open.discard(self._name)
            if kind is not None:  # it may have gone either way
                self._ledger.images.pop(self._name, None)
                self._ledger.volumes.pop(self._name, None)


class _New(_Open):
    def __init__(self, ledger: Ledger, name: str, text: str) -> None:
        super().__init__(ledger, name)
        self._text = text

    def __enter__(self) -> tuple[str, str]:  # type: ignore[override]
        super().__enter__()
        return self._name, self._text


def api_load(api: docker.APIClient, archive: bytes) -> None:
    for found in api.load_image(archive) or ():
        if "error" in found:
            raise Refused(found["error"])


def _check(said: str) -> None:
    for line in said.splitlines():
        found: Any = json.loads(line)
        if "error" in found:
            raise Refused(found["error"])


def _archive(name: str, text: str, ballast: bytes) -> bytes:
    """An image of two layers, as `docker save` writes it."""
    layers = [_tar({"ballast": ballast}), _tar({MARKER: text.encode()})]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["true"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{sha256(d).hexdigest()}" for d in layers],
            },
        }
    ).encode()
    files = {f"{n}/layer.tar": data for n, data in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(files)}]
    return _tar({**files, "config.json": config, "manifest.json": json.dumps(manifest).encode()})
