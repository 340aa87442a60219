"""Send one blob to a repository: known already, mounted from another, or uploaded and resumed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from netkit.errors import InvalidSpec, NetkitError
from runtime import limits
from runtime.registry.endpoints import Repository
from runtime.registry.exchange import Answer
from runtime.registry.failures import Refused
from runtime.registry.guard import Dropped
from runtime.registry.known import KnownBlobs
from runtime.registry.progress import LayerProgress
from runtime.registry.session import Session
from runtime.registry.settings import RegistrySettings

_LONGEST = 30.0  # seconds between two attempts
_TYPE = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is to be sent.  `open` gives the same bytes each time; `digest` is "" until known."""

    open: Callable[[], Iterator[bytes]]
    size: int  # bytes, of the content before it is compressed if it is
    digest: str = ""
    read: Callable[[], int] | None = None  # bytes of `size` that were read so far


@dataclass(frozen=True, slots=True)
class Sent:
    digest: str
    size: int


class Upload:
    """To one repository."""

    def __init__(
        self, session: Session, where: Repository, known: KnownBlobs, settings: RegistrySettings
    ) -> None:
        self._session, self._where, self._known = session, where, known
        self._settings = settings
        self._scopes = (f"repository:{where.path}:push,pull",)

    def size(self, digest: str) -> int | None:
        """HEAD: bytes of a blob in the repository; None if it is not there."""
        answer = self._session.ask(
            "HEAD", f"{self._where.path}/blobs/{digest}", scopes=self._scopes
        )
        answer.document()
        return answer.length if answer.status == 200 else None

    def mount(self, digest: str, origin: str) -> Answer | None:
        """Mount it from another repository; None if that was done, else the upload it became."""
        scopes = (*self._scopes, f"repository:{origin}:pull")
        query = f"mount={quote(digest, safe='')}&from={quote(origin, safe='')}"
        answer = self._session.ask(
            "POST", f"{self._where.path}/blobs/uploads/?{query}", scopes=scopes
        )
        if answer.status == 201:
            answer.document()
            return None
        if answer.status != 202:
            raise self._session.refused(answer)
        answer.document()
        return answer

    def send(self, content: Content, report: LayerProgress | None, begun: Answer | None) -> Sent:
        """Upload it whole, with attempts as for downloads.  `begun`: an upload that is open."""
        left, pause = self._settings.attempts, self._settings.pause
        place = self._session.at(begun) if begun is not None else ""
        state = _State(content, report)
        while True:
            try:
                if not place:
                    place = self._begin()
                    state.restart()
                place = self._patch(place, state)
                return self._commit(place, state)
            except (Dropped, Refused) as error:
                if isinstance(error, Refused) and not error.retryable:
                    raise
                left -= 1
                if left <= 0:
                    raise
            if report is not None:
                whole = max(int(pause + 0.5), 1)
                report.say(f"Retrying in {whole} second{'' if whole == 1 else 's'}")
            self._session.cancel.wait(pause)
            pause = min(pause * 2, _LONGEST)
            place = self._resumed(place, state) if place else ""

    def _begin(self) -> str:
        answer = self._session.ask(
            "POST", f"{self._where.path}/blobs/uploads/", scopes=self._scopes
        )
        if answer.status != 202:
            raise self._session.refused(answer)
        answer.document()
        return self._session.at(answer)

    def _patch(self, place: str, state: _State) -> str:
        answer = self._session.ask(
            "PATCH", place, scopes=self._scopes, headers=_TYPE, body=state.rest(),
            seconds=limits.REGISTRY_COMMIT_SECONDS,
        )  # fmt: skip
        if answer.status not in {201, 202, 204}:
            raise self._session.refused(answer)
        answer.document()
        if not state.complete:
            raise Dropped(f"{answer.request.shown}: answered before the end of the upload")
        return self._session.at(answer)

    def _commit(self, place: str, state: _State) -> Sent:
        digest = state.digest
        url = f"{place}{'&' if '?' in place else '?'}digest={quote(digest, safe='')}"
        answer = self._session.ask(
            "PUT", url, scopes=self._scopes, body=b"", headers=_TYPE,
            seconds=limits.REGISTRY_COMMIT_SECONDS,
        )  # fmt: skip
        if answer.status not in {201, 204}:
            raise self._session.refused(answer)
        answer.document()
        if self.size(digest) is None:
            raise InvalidSpec(f"the registry took {digest}, and does not have it")
        self._known.seen(digest, self._where)
        return Sent(digest, state.size)

    def _resumed(self, place: str, state: _State) -> str:
        """Where the upload goes on; "" to begin again."""
        try:
            answer = self._session.ask("GET", place, scopes=self._scopes)
            answer.document()
            found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
            if answer.status == 204 and found:
                state.resume(int(found[1]) + 1 if found[1] != "0" else 0)
                return self._session.at(answer) if answer.headers.get("Location") else place
        except NetkitError:
            pass  # a new upload may succeed
        return ""


class _State:
    """How far an upload is: what was sent is hashed once, and may be sent from the middle."""

    def __init__(self, content: Content, report: LayerProgress | None) -> None:
        self._content, self._report = content, report
        self._offset = 0
        self.restart()

    def restart(self) -> None:
        self._offset = 0
        self._reset()

    def resume(self, offset: int) -> None:
        self._offset = offset
        self._reset()

    def _reset(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self.complete = False

    @property
    def digest(self) -> str:
        return self._content.digest or f"sha256:{self._hash.hexdigest()}"

    def rest(self) -> Iterator[bytes]:
        """Everything from the offset; all of it is hashed."""
        for piece in self._content.open():
            if not self._content.digest:
                self._hash.update(piece)
            before, self.size = self.size, self.size + len(piece)
            if self.size > self._offset:
                yield piece[max(self._offset - before, 0) :]
            if self._report is not None:
                done = self._content.read() if self._content.read else self.size
                self._report.moved("Pushing", done, self._content.size)
        self.complete = True
