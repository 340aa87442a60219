"""COPY and ADD: find the sources, compute their digest, write them into an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from netkit.errors import NotSupported
from runtime.filetree.scoped_root import Root

Report = Callable[[dict[str, object]], None]  # takes an object of the build's JSON stream


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """A COPY or ADD instruction, its words expanded."""

    sources: tuple[str, ...]
    destination: str
    working_dir: str = "/"
    chown: str = ""
    is_add: bool = False
    from_image: bool = False  # --from: sources are of an image, and keep their owners

    @property
    def name(self) -> str:
        return "ADD" if self.is_add else "COPY"

    def comment(self, digest: str) -> str:
        """What the image's history says, and the cache is keyed by: no blank after --chown."""
        chown = f"--chown={self.chown}" if self.chown else ""
        return f"{self.name} {chown}{digest} in {self.destination} "


class Sources:
    """What `gather` found; a context manager that removes downloads.

    `digest`: "file:HASH", "dir:HASH", "multi:HASH" or, of a URL, HASH alone.
    """

    def __init__(self, request: CopyRequest, digest: str) -> None:
        self.request = request
        self.digest = digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def gather(request: CopyRequest, root: Root | None, folder: Path, report: Report) -> Sources:
    """Find the sources below `root`, a context or an image; None if the build has no context.

    URLs of ADD are downloaded below `folder`, with progress to `report`.  BuildFailed in Docker's
    words for sources that are missing, forbidden or too many.
    """
    raise NotSupported("COPY and ADD are not supported yet")


def copy(sources: Sources, image: Root) -> None:
    """Write the sources into the mounted file system `image`; links there lead nowhere outside it.

    BuildFailed in Docker's words; what was written before the failure stays in `image`.
    """
    raise NotSupported("COPY and ADD are not supported yet")
