"""Pull an image: find its manifest, fetch what is missing, verify, unpack, name it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from netkit.errors import InvalidSpec
from runtime.cancellation import Cancel, Cancelled
from runtime.images import config as configuration
from runtime.images.pulling import Progress
from runtime.images.reference import Reference
from runtime.images.store import ImageStore
from runtime.registry.download import Download
from runtime.registry.endpoints import Repository
from runtime.registry.known import KnownBlobs
from runtime.registry.manifests import Descriptor, Manifest, Platform, fits
from runtime.registry.progress import LayerProgress, message
from runtime.registry.resolving import Document, Resolver
from runtime.registry.session import Session
from runtime.registry.settings import RegistrySettings
from runtime.registry.spool import Spool
from runtime.tar.stream import Source


class Slots:
    """How many layers are transferred at a time, by all operations; and each only once."""

    def __init__(self, number: int) -> None:
        self._semaphore = threading.Semaphore(number)
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()

    @contextmanager
    def transfer(self, cancel: Cancel) -> Iterator[None]:
        cancel.acquire(self._semaphore)
        try:
            yield
        finally:
            self._semaphore.release()

    @contextmanager
    def alone(self, digest: str, cancel: Cancel) -> Iterator[None]:
        """No other operation has this blob meanwhile."""
        with self._guard:
            if (one := self._locks.get(digest)) is None:
                one = self._locks[digest] = _Lock()
        cancel.acquire(one.lock)
        try:
            yield
        finally:
            one.lock.release()


class _Lock:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One pull from one endpoint."""

    store: ImageStore
    known: KnownBlobs
    slots: Slots
    session: Session
    settings: RegistrySettings
    repository: Repository
    platform: Platform
    explicit: bool  # the platform was asked for
    progress: Progress
    cancel: Cancel  # of this endpoint: set at the first failure

    @property
    def _scopes(self) -> tuple[str, ...]:
        return (f"repository:{self.repository.path}:pull",)

    def one(self, name: Reference) -> str:
        """Pull a tag or digest; the image's id."""
        resolver = Resolver(self.session, self.repository, self._scopes)
        names, asked = self.store.registry_names, name.digest or name.tag or "latest"
        digest = name.digest
        if not digest:
            digest = resolver.head(asked)
        elif not names.digests.find(name.repository, digest) and self._stored(digest):
            digest = resolver.head(asked) or digest  # may this repository be read at all?
            if digest != name.digest:
                raise InvalidSpec(f"asked for {name.digest}, and the registry has {digest}")
        id, before = self._stored(digest), names.named(name)
        if id:
            message(self.progress, f"Pulling from {self.repository.path}", asked)
            self.cancel.check()
            names.record(id, name, digest)
        else:
            document = resolver.get(digest or asked)
            message(self.progress, f"Pulling from {self.repository.path}", asked)
            digest = document.digest
            if id := self._stored(digest):
                names.record(id, name, digest)
            else:
                id = self._fetched(resolver, document, name)
        message(self.progress, f"Digest: {digest}")
        state = "Image is up to date" if before == id else "Downloaded newer image"
        message(self.progress, f"Status: {state} for {name.name}")
        return id

    def _stored(self, digest: str) -> str | None:
        """An image that a registry calls so, for the platform."""
        for id in self.store.registry_names.digests.anywhere(digest) if digest else ():
            document = self.store.find(id).document
            have = Platform(
                document.get("os") or "linux", document.get("architecture"),
                document.get("variant") or None,
            )  # fmt: skip
            if not self.explicit or fits(have, self.platform):
                return id
        return None

    def _fetched(self, resolver: Resolver, document: Document, name: Reference) -> str:
        manifest, _ = resolver.manifest(document, self.platform)
        with self.store.holding():
            if self.store.registry_names.has(manifest.config.digest):
                return self._here(manifest, name, document.digest)
            raw = self._config(manifest.config)
            diff_ids = configuration.layers_of(configuration.parse(raw, "the configuration"))
            if len(diff_ids) != len(manifest.layers):
                raise InvalidSpec(
                    f"the configuration names {len(diff_ids)} layers, and the manifest has "
                    f"{len(manifest.layers)}"
                )
            self._layers(manifest, diff_ids)
            self.cancel.check()
            digests = [layer.digest for layer in manifest.layers]
            return self.store.registry_names.add(raw, digests, name, document.digest)

    def _here(self, manifest: Manifest, name: Reference, digest: str) -> str:
        """The image is in the store: it was made here, or came another way."""
        for layer in manifest.layers:
            LayerProgress(self.progress, layer.digest).say("Already exists")
        self.store.registry_names.record(manifest.config.digest, name, digest)
        return manifest.config.digest

    def _config(self, wanted: Descriptor) -> bytes:
        if not self.store.blobs.has(wanted.digest):
            try:
                with self.store.blobs.writer() as blob:
                    self._download().fetch(blob, wanted, None)
            except InvalidSpec as error:
                raise InvalidSpec(
                    f"image config verification failed for digest {wanted.digest}: {error}"
                ) from error
        return self.store.blobs.get(wanted.digest)

    def _download(self) -> Download:
        return Download(
            self.session, self.repository.path, self._scopes, self.settings
        )  # fmt: skip

    def _layers(self, manifest: Manifest, diff_ids: Sequence[str]) -> None:
        """Fetch and unpack all layers, several at a time; the first failure ends the others."""
        wanted = dict(zip(diff_ids, manifest.layers, strict=True))  # one may occur twice
        reports = {d: LayerProgress(self.progress, layer.digest) for d, layer in wanted.items()}
        for report in reports.values():
            report.say("Pulling fs layer")
        missing = []
        for diff_id, layer in wanted.items():
            if self._complete(diff_id, layer):
                reports[diff_id].say("Already exists")
            else:
                missing.append(diff_id)
        if not missing:
            return
        with ThreadPoolExecutor(
            min(len(missing), self.settings.downloads), "netkit-pull"
        ) as pool:  # fmt: skip
            jobs = [
                pool.submit(self._layer, wanted[diff_id], diff_id, reports[diff_id])
                for diff_id in missing
            ]
            for diff_id in missing[self.settings.downloads :]:
                reports[diff_id].say("Waiting")
            finish(jobs, self.cancel)

    def _complete(self, diff_id: str, layer: Descriptor) -> bool:
        return self.store.layers.has(diff_id) and self.store.blobs.has(layer.digest)

    def _layer(self, layer: Descriptor, diff_id: str, report: LayerProgress) -> None:
        """Download, verify, unpack; another pull of the same layer waits, and finds it."""
        with self.slots.alone(layer.digest, self.cancel):
            if self._complete(diff_id, layer):
                report.say("Already exists")
                return
            if self.store.blobs.has(layer.digest):
                report.say("Download complete")
                with open(self.store.blobs.path(layer.digest), "rb") as file:
                    self._unpack(_Watched(file.read, layer.size, report, self.cancel), diff_id)
            else:
                self._fetch(layer, diff_id, report)
            self.known.seen(layer.digest, self.repository)
            report.say("Pull complete")

    def _fetch(self, layer: Descriptor, diff_id: str, report: LayerProgress) -> None:
        """Download and unpack side by side: the layer is kept only if the blob was verified."""
        with (
            self.store.blobs.writer() as blob,
            closing(Spool(blob, self.cancel)) as spool,
            ThreadPoolExecutor(1, "netkit-unpack") as pool,
        ):
            source = _Watched(spool.read, layer.size, report, self.cancel, lambda: spool.stored)
            with self.slots.transfer(self.cancel), spool:
                job = pool.submit(self._unpack, source, diff_id)
                # What cannot be unpacked comes to its end as well: if it is not what the manifest
                # says, that is the reason to report.
                self._download().fetch(spool, layer, report)
                report.say("Download complete")
            job.result()

    def _unpack(self, source: Source, diff_id: str) -> None:
        if not self.store.layers.has(diff_id):
            self.store.layers.add(source, diff_id)


class _Watched:
    """A blob as it is unpacked: reports, and ends when the operation is cancelled."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        size: int,
        report: LayerProgress,
        cancel: Cancel,
        shown: Callable[[], bool] = lambda: True,
    ) -> None:
        self._read, self._size, self._report, self._cancel = read, size, report, cancel
        self._shown, self._done = shown, 0

    def read(self, size: int = -1, /) -> bytes:
        self._cancel.check()
        data = self._read(size)
        self._done += len(data)
        if self._shown():
            self._report.moved("Extracting", self._done, self._size)
        return data


def finish(jobs: Sequence[Future[None]], cancel: Cancel) -> None:
    """Wait for all; at the first failure the others are asked to end, and it is raised."""
    done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
    failures = [error for job in done if (error := job.exception()) is not None]
    if failures:
        cancel.set()
        for job in waiting:
            job.cancel()
        wait(jobs)
    elif waiting:
        wait(waiting)
    failures += [
        error for job in jobs if not job.cancelled() and (error := job.exception()) is not None
    ]
    for error in failures:
        if not isinstance(error, Cancelled):
            raise error
    if failures:
        raise failures[0]
