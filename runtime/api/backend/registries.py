"""Protocol of registries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from runtime.cancellation import Cancel
from runtime.images.pulling import Login, Logins, Progress, Puller
from runtime.images.reference import Reference


class Descriptor(Protocol):
    """A manifest or index as the registry has it."""

    @property
    def digest(self) -> str: ...
    @property
    def media_type(self) -> str: ...
    @property
    def raw(self) -> bytes: ...


class Platform(Protocol):
    @property
    def os(self) -> str | None: ...
    @property
    def architecture(self) -> str | None: ...
    @property
    def variant(self) -> str | None: ...


class Found(Protocol):
    @property
    def document(self) -> Descriptor: ...
    @property
    def platforms(self) -> Sequence[Platform]: ...


class Registries(Puller, Protocol):
    """All block, and end within bounds (docs/limits.md) or when `cancel` is set."""

    def pull_all(
        self, name: Reference, *, platform: str, logins: Logins, progress: Progress, cancel: Cancel
    ) -> list[str]:
        """Pull all tags of a repository."""
        ...

    def push(
        self, name: Reference, *, logins: Logins, progress: Progress, cancel: Cancel, every: bool
    ) -> None:
        """Push a tag, or with `every` all tags of the repository."""
        ...

    def look(self, name: Reference, logins: Logins, cancel: Cancel) -> Found:
        """What the registry has under a name."""
        ...

    def login(self, login: Login, cancel: Cancel) -> str:
        """Try credentials; the identity token that replaces the password, or ""."""
        ...

    def search(
        self, term: str, limit: int, logins: Logins, cancel: Cancel
    ) -> list[dict[str, Any]]: ...
