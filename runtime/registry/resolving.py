"""From a tag or digest to a verified manifest of one platform."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from netkit.errors import InvalidSpec, NotFound
from runtime import limits
from runtime.images.reference import DIGEST
from runtime.registry import manifests
from runtime.registry.endpoints import Repository
from runtime.registry.exchange import Answer
from runtime.registry.manifests import Descriptor, Index, Manifest, Platform
from runtime.registry.session import Session

_ACCEPT = {"Accept": ", ".join((*manifests.ACCEPT, "application/json"))}


@dataclass(frozen=True, slots=True)
class Document:
    digest: str
    media_type: str
    raw: bytes


class Resolver:
    """Asks one repository."""

    def __init__(self, session: Session, repository: Repository, scopes: tuple[str, ...]) -> None:
        self._session, self._scopes = session, scopes
        self._path = f"{repository.path}/manifests"

    def head(self, reference: str) -> str:
        """The digest of a tag or digest; "" if the registry does not say.

        Any refusal is "" as well: the GET that follows has the reason in its body.
        """
        answer = self._session.ask(
            "HEAD", f"{self._path}/{reference}", scopes=self._scopes, headers=_ACCEPT
        )
        answer.document()
        digest = answer.headers.get("Docker-Content-Digest", "")
        if answer.status != 200 or not digest:
            return ""
        return _digest(digest, answer)

    def get(self, reference: str) -> Document:
        """A manifest or index by tag or digest.  Refused; InvalidSpec if it is another one."""
        answer = self._session.ask(
            "GET", f"{self._path}/{reference}", scopes=self._scopes, headers=_ACCEPT
        )
        if answer.status != 200:
            raise self._session.refused(answer)
        raw = answer.document()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        promised = answer.headers.get("Docker-Content-Digest", "")
        for expected in (reference if DIGEST.fullmatch(reference) else "", promised):
            if expected and _digest(expected, answer) != digest:
                raise InvalidSpec(
                    f"manifest verification failed for digest {expected}: it is {digest}"
                )
        return Document(digest, answer.headers.get("Content-Type", ""), raw)

    def manifest(self, top: Document, wanted: Platform) -> tuple[Manifest, Document]:
        """Follow indexes to the manifest for a platform.  NotFound if there is none."""
        document, seen = top, {top.digest}
        for _ in range(limits.INDEX_DEPTH + 1):
            what = f"manifest {document.digest}"
            found = manifests.parse(document.raw, document.media_type, what)
            if isinstance(found, Manifest):
                return found, document
            entry = _entry(found, wanted)
            if entry.digest in seen:
                raise InvalidSpec(f"{what} leads back to itself")
            seen.add(entry.digest)
            document = self.get(entry.digest)
            if len(document.raw) != entry.size:
                raise InvalidSpec(
                    f"manifest {entry.digest} has {len(document.raw)} bytes, and the index says "
                    f"{entry.size}"
                )
        raise InvalidSpec(f"indexes are nested more than {limits.INDEX_DEPTH} deep")


def _entry(index: Index, wanted: Platform) -> Descriptor:
    entry = manifests.choose(index.manifests, wanted)
    if entry is None and len(index.manifests) == 1 and index.manifests[0].platform is None:
        entry = index.manifests[0]  # an index within an index, or one without platforms
    if entry is None:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    return entry


def _digest(text: str, answer: Answer) -> str:
    if not DIGEST.fullmatch(text):
        raise InvalidSpec(f"{answer.request.shown}: the registry gives a bad digest {text[:100]!r}")
    return text
