"""What a registry has under a name, without pulling it."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.images.reference import Reference
from runtime.registry import manifests
from runtime.registry.download import document
from runtime.registry.endpoints import Repository
from runtime.registry.manifests import Index, Platform
from runtime.registry.resolving import Document, Resolver
from runtime.registry.session import Session


@dataclass(frozen=True, slots=True)
class Found:
    document: Document
    platforms: tuple[Platform, ...]


def found(session: Session, where: Repository, name: Reference) -> Found:
    """Platforms of an index are as it lists them, that of a manifest as its configuration says."""
    scopes = (f"repository:{where.path}:pull",)
    top = Resolver(session, where, scopes).get(name.digest or name.tag or "latest")
    parsed = manifests.parse(top.raw, top.media_type, f"manifest {top.digest}")
    if isinstance(parsed, Index):
        listed = [entry.platform for entry in parsed.manifests if entry.platform is not None]
        return Found(top, tuple(listed))
    raw = document(session, where.path, parsed.config, scopes)
    return Found(top, (manifests.of_configuration(raw),))
