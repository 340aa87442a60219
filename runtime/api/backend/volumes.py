"""Protocol of volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from runtime.filters import Filters, PrunedVolumes
from runtime.volumes.model import Volume


class Volumes(Protocol):
    def create(
        self,
        name: str,
        *,
        driver: str = "",
        options: Mapping[str, str] | None,
        labels: Mapping[str, str] | None,
    ) -> Volume:
        """Create a volume, or find the one of that name; "" makes an anonymous one."""
        ...

    def find(self, name: str) -> Volume:
        """By its full name only.  NotFound "get x: no such volume"."""
        ...

    def all(self) -> list[Volume]: ...

    def users(self, name: str) -> Sequence[str]:
        """Ids of the containers that name it, running or not."""
        ...

    def path(self, name: str) -> Path:
        """Directory of its files on this host."""
        ...

    def size(self, name: str) -> int:
        """Bytes of its files."""
        ...

    def remove(self, name: str, *, force: bool = False) -> None:
        """Conflict if a container uses it.  `force`: no error if there is none."""
        ...

    def prune(self, filters: Filters, *, every: bool) -> PrunedVolumes:
        """Remove unused anonymous volumes; with `every` named ones, too."""
        ...
