"""Clients that fill an engine's store, and what each has been promised.

Every image and every volume has a marker: a file whose content is known.  A client is sequential:
when the engine ends, at most one request of each client is open, and that may have gone either way.
Each client has a kind of request that it prefers, so that at every instant all kinds are likely.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import docker

from tests.engine.daemon import Engine
from tests.engine.wire import run
from tests.torture.store.ledger import Ledger, New, Open

BASE = "busybox:latest"
FILLED = "filled:latest"  # it has files in /kept, which become a volume's by first use
FILES = 120
MARKER = "marker"  # the file's name, in the root of an image or volume
KEPT = 12  # images a client keeps: it removes others, so that the disk suffices
KEPT_VOLUMES = 5
FAVOURITES = ("pull", "build", "commit", "load", "volume")  # one a client
ACTS = (*FAVOURITES, "import_")
PREFERRED = 0.75  # how often a client does what it prefers
REGISTRY = "127.0.0.1:5000"
PULLED = 6  # images a client finds in the registry
# What is said when the disk is full; the last by a shell in a build, which cannot write.
FULL = ("no space left on device", "disk is full", "returned a non-zero code")


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


def filled(engine: Engine) -> None:
    """Make the image FILLED of the engine's BASE."""
    ballast = random.Random(5).randbytes(1000)
    files = {f"kept/{n % 7}/{n}": ballast for n in range(FILES)}
    context = _tar({**files, "Dockerfile": f"FROM {BASE}\nCOPY kept /kept/\n".encode()})
    engine.docker("build", "-q", "-t", FILLED, "-", input=context)


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
        self._count = self._requests = 0
        self._container = self._inside = ""  # one to commit, and the marker in it
        self._failed = ""  # the kind of the request that failed
        self.full_allowed = False

    def work(self, over: threading.Event) -> None:
        api = docker.APIClient(base_url=self.engine.host, version="1.41", timeout=60)
        try:
            while not over.is_set() and self._step(api, over):
                pass
        finally:
            api.close()

    def _step(self, api: docker.APIClient, over: threading.Event) -> bool:
        act = self._act()
        try:
            act(api)
        except (docker.errors.APIError, docker.errors.BuildError, Refused) as error:
            return self._refused(str(error))
        except Exception as error:  # docker-py lets through what its libraries raise
            if not over.is_set() and self.engine.running():
                self.failures.append(f"{self._failed}: connection lost: {error!r}")
            return False
        return True

    def _refused(self, why: str) -> bool:
        # A whole answer: the engine was alive.
        if self.full_allowed and any(word in why.lower() for word in FULL):
            with self.ledger.lock:
                self.ledger.refused[self._failed] += 1
            return True
        self.failures.append(f"{self._failed}: {why}")
        return False

    def _act(self) -> Callable[[docker.APIClient], None]:
        if len(self._mine(self.ledger.images)) > KEPT:
            return self.remove_image
        if len(self._mine(self.ledger.volumes)) > KEPT_VOLUMES:
            return self.remove_volume
        favourite = FAVOURITES[self.number % len(FAVOURITES)]
        kind = favourite if self.rng.random() < PREFERRED else self.rng.choice(ACTS)
        act: Callable[[docker.APIClient], None] = getattr(self, kind)
        return act

    def _mine(self, book: Mapping[str, str | None]) -> list[str]:
        with self.ledger.lock:
            return [n for n, c in book.items() if c and of_client(n, self.number)]

    @contextmanager
    def _doing(self, kind: str) -> Iterator[None]:
        """A request of this kind is open: what an end of the engine falls into."""
        self._requests += 1
        with self.ledger.lock:
            self.ledger.doing[self.number] = (kind, self._requests)
        try:
            yield
        except BaseException:
            self._failed = kind
            raise
        finally:
            with self.ledger.lock:
                self.ledger.doing.pop(self.number, None)

    # requests

    def pull(self, api: docker.APIClient) -> None:
        """One that it has not, of those that `published` put into the registry."""
        have = self._mine(self.ledger.images)
        names = {pulled_name(self.number, n): n for n in range(PULLED)}
        name = self.rng.choice([n for n in names if n not in have] or list(names))
        if name in have:
            self._remove_image(api, name)
        with Open(self.ledger, name), self._doing("pull"):
            _finished(api.pull(name, tag="latest", stream=True, decode=True))
            self._done(self.ledger.images, name, pulled_marker(self.number, names[name]))

    def load(self, api: docker.APIClient) -> None:
        with self._new(self.ledger.images) as (name, text), self._doing("load"):
            _finished(api.load_image(_archive(f"{name}:latest", text, self._blob())) or ())
            self._done(self.ledger.images, name, text)

    def import_(self, api: docker.APIClient) -> None:
        with self._new(self.ledger.images) as (name, text), self._doing("import"):
            data = _tar({MARKER: text.encode(), "ballast": self._blob()})
            said = api.import_image_from_data(data, repository=name)
            _finished(json.loads(line) for line in said.splitlines())
            self._done(self.ledger.images, name, text)

    def commit(self, api: docker.APIClient) -> None:
        """Commit a container, which is changed and replaced now and then."""
        if not self._container or self.rng.random() < 0.2:
            self._replace(api)
        if not self._inside or self.rng.random() < 0.5:
            text, self._inside = f"{self.rng.getrandbits(64):016x}", ""
            with self._doing("copy in"):
                files = {MARKER: text.encode(), "ballast": self._blob()}
                api.put_archive(self._container, "/", _tar(files))
            self._inside = text
        with self._new(self.ledger.images) as (name, _), self._doing("commit"):
            api.commit(self._container, repository=name)
            self._done(self.ledger.images, name, self._inside)

    def _replace(self, api: docker.APIClient) -> None:
        old, self._container, self._inside = self._container, "", ""
        if old:  # if the disk is full it may stay, dead
            with self._doing("remove"):
                api.remove_container(old, v=True, force=True)
        with self._doing("create"):
            self._container = api.create_container(BASE, ["true"])["Id"]

    def build(self, api: docker.APIClient) -> None:
        lines = f"FROM {BASE}\nENV A=%s\nCOPY {MARKER} /\nRUN echo %s >/ran\n"
        self._build(api, lines.replace("%s", f"{self.rng.getrandbits(32)}"))

    def _build(self, api: docker.APIClient, lines: str, mark: str = "") -> str:
        with self._new(self.ledger.images, mark) as (name, text), self._doing("build"):
            context = _tar({MARKER: text.encode(), "Dockerfile": lines.encode()})
            _finished(api.build(
                fileobj=io.BytesIO(context), custom_context=True, tag=name, decode=True, rm=True,
                forcerm=True,
            ))  # fmt: skip
            self._done(self.ledger.images, name, text)
        return name

    def volume(self, api: docker.APIClient) -> None:
        """First use of a volume copies what the image has there."""
        sources = [n for n in self._mine(self.ledger.images) if "-filled" in n]
        if sources and self.rng.random() < 0.8:
            source = self.rng.choice(sources)
        else:
            lines = f"FROM {FILLED}\nCOPY {MARKER} /\nCOPY {MARKER} /kept/\n"
            source = self._build(api, lines, "filled")
        text = self.ledger.images[source]
        assert text is not None
        with self._new(self.ledger.volumes) as (name, _):
            binds = api.create_host_config(binds=[f"{name}:/kept"])
            with self._doing("volume"):
                api.create_container(source, ["true"], host_config=binds, name=f"c-{name}")
                self._done(self.ledger.volumes, name, text)
        with self._doing("remove"):
            api.remove_container(f"c-{name}", force=True)

    def remove_image(self, api: docker.APIClient) -> None:
        self._remove_image(api, self.rng.choice(self._mine(self.ledger.images)))

    def _remove_image(self, api: docker.APIClient, name: str) -> None:
        with Open(self.ledger, name), self._doing("remove"):
            api.remove_image(name, force=True)
            self._done(self.ledger.images, name, None)

    def remove_volume(self, api: docker.APIClient) -> None:
        name = self.rng.choice(self._mine(self.ledger.volumes))
        with Open(self.ledger, name), self._doing("remove"):
            with suppress(docker.errors.NotFound):  # there, if the disk was full or by a kill
                api.remove_container(f"c-{name}", force=True)
            api.remove_volume(name, force=True)
            self._done(self.ledger.volumes, name, None)

    def _new(self, book: dict[str, str | None], mark: str = "") -> New:
        self._count += 1
        kind = mark or ("v" if book is self.ledger.volumes else "i")
        name = f"w{self.number}-{kind}{self._count}-{self.rng.getrandbits(32):08x}"
        return New(self.ledger, name, f"{self.rng.getrandbits(64):016x}")

    def _done(self, book: dict[str, str | None], name: str, text: str | None) -> None:
        with self.ledger.lock:
            book[name] = text
            self.ledger.acknowledged += 1

    def _blob(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([100, 10_000, 400_000]))


class Refused(Exception):
    """An error in a stream of progress."""


def _finished(progress: Iterable[Any]) -> None:
    """Read a stream of progress to its end; Refused if it has an error."""
    for found in progress:
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
