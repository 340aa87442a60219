"""Remove what builds of a killed daemon have left; its start needs no other module of builds."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from netkit import threads
from netkit.store import Database
from runtime.build.cache import Parents, StepCache
from runtime.container.model import Container
from runtime.filetree.remove import remove_tree
from runtime.images.model import Image


class Containers(Protocol):
    """Implemented by runtime.lifecycle.service.ContainerService."""

    def all(self) -> list[Container]: ...

    def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None: ...


class Images(Parents, Protocol):
    """Implemented by runtime.images.store.ImageStore."""

    def all(self) -> Iterable[Image]: ...


def sweep(folder: Path, database: Database, images: Images, containers: Containers) -> None:
    """Remove containers, contexts in `folder`, and steps of the cache whose images are no more.

    What cannot be removed is reported, and tried again when the daemon next starts.
    """
    for c in containers.all():
        if c.building:
            what = f"removing container {c.name} of a build that was cut short"
            again = partial(containers.remove, c.id, force=True, volumes=True, link=False)
            threads.attempt(what, again)
    threads.attempt("removing contexts of builds", partial(sweep_contexts, folder))
    StepCache(database, images).forget_all_but(image.id for image in images.all())


def sweep_contexts(folder: Path) -> None:
    """Remove all in `folder`, if there is one."""
    if folder.is_dir():
        for left in folder.iterdir():
            if left.is_dir() and not left.is_symlink():
                remove_tree(left)
            else:
                left.unlink()
