"""COPY and ADD: find the sources, compute their digest, write them into an image."""

from __future__ import annotations

import posixpath
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from netkit.errors import NetkitError
from runtime.build import added, digests
from runtime.build.added import Report
from runtime.build.download import is_url
from runtime.build.errors import BuildFailed, failed
from runtime.build.files import Files
from runtime.build.finding import Found, find
from runtime.build.owners import ROOT, owner
from runtime.build.placing import place
from runtime.cancellation import Check, unchecked
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import Root


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

    @property
    def target(self) -> str:
        """The absolute destination, with its slash at the end if it has one."""
        if self.destination.startswith("/"):
            return self.destination
        path = posixpath.normpath(f"/{self.working_dir}/{self.destination}")
        path = "/" + path.lstrip("/")
        return path + "/" if self.destination.endswith("/") and path != "/" else path

    def comment(self, digest: str) -> str:
        """What the image's history says, and the cache is keyed by: no blank after --chown."""
        chown = f"--chown={self.chown}" if self.chown else ""
        return f"{self.name} {chown}{digest} in {self.destination} "


class Sources:
    """What `gather` found; a context manager that removes downloads.

    `digest`: "file:HASH", "dir:HASH", "multi:HASH" or, of a URL, HASH alone.
    """

    def __init__(self, request: CopyRequest, folder: Path) -> None:
        self.request = request
        self.folder = folder  # for downloads and temporary files
        self.found: list[Found] = []

    @property
    def digest(self) -> str:
        each = [found.digest for found in self.found]
        return each[0] if len(each) == 1 else digests.of_several(each)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for found in self.found:
            if found.is_url:
                found.root.close()
        remove_tree(self.folder)


def gather(
    request: CopyRequest,
    files: Files | None,
    folder: Path,
    report: Report,
    check: Check = unchecked,
) -> Sources:
    """Find the sources among the `files` of a context or an image; None for no context.

    URLs of ADD are downloaded below `folder`, with progress to `report`.  BuildFailed in Docker's
    words for sources that are missing, forbidden or too many.  `files` have to stay open until
    the sources are closed.  `check` is called now and then, and may raise to end it.
    """
    home = folder / f"add-{secrets.token_hex(8)}"
    home.mkdir(mode=0o700)
    sources = Sources(request, home)
    try:
        try:
            for n, word in enumerate(request.sources):
                _add(sources, files, n, word, report, check)
            if not sources.found:
                raise BuildFailed("no source files were specified")
        except NetkitError as error:
            raise BuildFailed(f"{request.name} failed: {error}") from error
        except OSError as error:  # the source changes meanwhile, or its disk fails
            raise failed(f"{request.name} failed: open", str(error.filename), error) from error
        if len(sources.found) > 1 and not request.destination.endswith("/"):
            raise BuildFailed(
                f"When using {request.name} with more than one source file, the destination must "
                "be a directory and end with a /"
            )
    except BaseException:
        sources.close()
        raise
    return sources


def _add(
    sources: Sources, files: Files | None, n: int, word: str, report: Report, check: Check
) -> None:
    request = sources.request
    if is_url(word):
        if not request.is_add:
            raise BuildFailed("source can't be a URL for COPY")
        into = sources.folder / str(n)
        into.mkdir(mode=0o700)
        slash = request.destination.endswith("/")
        sources.found.append(added.fetch(word, into, slash, report, check))
        return
    if files is None:
        raise BuildFailed("missing build context")
    sources.found += find(files, word, in_context=not request.from_image, check=check)


def copy(sources: Sources, image: Root, check: Check = unchecked) -> None:
    """Write the sources into the mounted file system `image`; links there lead nowhere outside it.

    BuildFailed in Docker's words; what was written before the failure stays in `image`.
    """
    request = sources.request
    kept = request.from_image and not request.chown
    new_owner = owner(image, request.chown) if request.chown else ROOT
    for found in sources.found:
        place(
            found,
            image,
            request.target,
            None if kept else new_owner,
            sources.folder if request.is_add else None,
            check,
        )
