"""Bring one blob into the store: verified, resumed where the connection broke."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Protocol

from netkit.errors import InvalidSpec, KernelError, NetkitError
from runtime import limits
from runtime.cancellation import Cancelled
from runtime.registry.exchange import Answer
from runtime.registry.failures import Refused
from runtime.registry.guard import Dropped
from runtime.registry.manifests import Descriptor
from runtime.registry.progress import LayerProgress
from runtime.registry.session import Session
from runtime.registry.settings import RegistrySettings

_BLOCK = 1 << 18
_LONGEST = 30.0  # seconds between two attempts


class Target(Protocol):
    """Where the bytes go: a BlobWriter, or a Spool."""

    @property
    def size(self) -> int: ...
    def write(self, data: bytes) -> int: ...
    def commit(self, expected: str = "") -> str: ...


class Download:
    """A blob of a repository.  Attempts without progress are counted; refusals are final."""

    def __init__(
        self, session: Session, path: str, scopes: tuple[str, ...], settings: RegistrySettings
    ) -> None:
        """`path` of the repository below /v2/."""
        self._session, self._path, self._scopes = session, path, scopes
        self._settings = settings

    def fetch(self, blob: Target, wanted: Descriptor, progress: LayerProgress | None) -> None:
        """Write and store the blob.  InvalidSpec if it is not the one wanted; KernelError: the
        disk."""
        left, pause = self._settings.attempts, self._settings.pause
        while True:
            before = blob.size
            try:
                self._attempt(blob, wanted, progress)
                break
            except (Dropped, Refused) as error:
                if isinstance(error, Refused) and not error.retryable:
                    raise
                if blob.size - before >= limits.REGISTRY_PROGRESS_BYTES:
                    left, pause = self._settings.attempts, self._settings.pause
                left -= 1
                if left <= 0:
                    raise
            self._wait(pause, progress)
            pause = min(pause * 2, _LONGEST)
        if progress is not None:
            progress.say("Verifying Checksum")
        try:
            with _disk(wanted.digest):
                blob.commit(wanted.digest)
        except InvalidSpec as error:
            raise InvalidSpec(f"filesystem layer verification failed: {error}") from error

    def _wait(self, seconds: float, progress: LayerProgress | None) -> None:
        left = seconds
        while left > 0:
            if progress is not None:
                whole = max(int(left + 0.5), 1)
                progress.say(f"Retrying in {whole} second{'' if whole == 1 else 's'}")
            self._session.cancel.wait(min(left, 1.0))
            left -= 1.0

    def _attempt(
        self, blob: Target, wanted: Descriptor, progress: LayerProgress | None
    ) -> None:
        if blob.size >= wanted.size:
            return
        headers = {"Range": f"bytes={blob.size}-"} if blob.size else {}
        answer = self._session.ask(
            "GET", f"{self._path}/blobs/{wanted.digest}", scopes=self._scopes, headers=headers
        )
        try:
            skip = self._begins_at(answer, blob.size)
            _check_length(answer, wanted, blob.size - skip)
            answer.begin(wanted.size)
            self._copy(answer, blob, wanted, skip, progress)
        finally:
            if blob.size < wanted.size:
                answer.close()

    def _begins_at(self, answer: Answer, have: int) -> int:
        """How many bytes that are there already come once more.  Refused, InvalidSpec."""
        if answer.status == 200:
            return have
        if answer.status == 206 and have:
            text = answer.headers.get("Content-Range", "")
            if text.replace("=", " ").startswith(f"bytes {have}-"):
                return 0
            raise InvalidSpec(
                f"{answer.request.shown}: asked for the bytes from {have}, and got {text[:60]!r}"
            )
        raise self._session.refused(answer)

    def _copy(
        self, answer: Answer, blob: Target, wanted: Descriptor, skip: int,
        progress: LayerProgress | None,
    ) -> None:  # fmt: skip
        while data := answer.read(_BLOCK):
            if skip:
                data, skip = data[skip:], max(skip - len(data), 0)
            if blob.size + len(data) > wanted.size:
                raise InvalidSpec(
                    f"{answer.request.shown}: more than the {wanted.size} bytes that the manifest "
                    "says"
                )
            with _disk(wanted.digest):
                blob.write(data)
            if progress is not None:
                progress.moved("Downloading", blob.size, wanted.size)
        if blob.size < wanted.size:
            raise Dropped(f"{answer.request.shown}: unexpected EOF")


def _check_length(answer: Answer, wanted: Descriptor, have: int) -> None:
    if answer.length is not None and have + answer.length != wanted.size:
        raise InvalidSpec(
            f"{answer.request.shown}: {have + answer.length} bytes, and the manifest says "
            f"{wanted.size}"
        )


@contextlib.contextmanager
def _disk(digest: str):  # type: ignore[no-untyped-def]
    """KernelError for a full or broken disk."""
    try:
        yield
    except (Cancelled, NetkitError):
        raise
    except OSError as error:
        raise KernelError(
            f"cannot store {digest}: {(error.strerror or str(error)).lower()}", errno=error.errno
        ) from error


def document(session: Session, path: str, wanted: Descriptor, scopes: tuple[str, ...]) -> bytes:
    """A small blob, verified and not stored."""
    answer = session.ask("GET", f"{path}/blobs/{wanted.digest}", scopes=scopes)
    if answer.status != 200:
        raise session.refused(answer)
    raw = answer.document()
    if f"sha256:{hashlib.sha256(raw).hexdigest()}" != wanted.digest:
        raise InvalidSpec(f"image config verification failed for digest {wanted.digest}")
    return raw
