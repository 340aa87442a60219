"""Remove images and names by dockerd's rules (its daemon/images/image_delete.go), and prune.

Parents without a name or a user go with their last child; an image with children stays.  An image
that is deleted by force while stopped containers use it disappears from all lists, and its layers
are kept for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from netkit.errors import Conflict, NotFound
from runtime.filters import Filters, PruneFilter
from runtime.images.chains import chain_ids
from runtime.images.records import Records
from runtime.images.reference import parse
from runtime.images.tags import TagStore


class ImageUser(NamedTuple):
    """A container made from an image, or a build."""

    id: str
    name: str
    alive: bool
    what: str = "container"

    def __str__(self) -> str:
        return f"{self.what} {_short(self.id)}".rstrip()


Users = Callable[[str], Sequence[ImageUser]]  # by the id of an image
Lines = list[dict[str, str]]  # {"Untagged": name} or {"Deleted": id}, as `docker rmi` prints them


@dataclass(slots=True)
class _Refused(Exception):
    """Why an image cannot be deleted."""

    id: str
    reason: str
    hard: bool = False  # not by force either
    used: bool = False  # by a container

    def conflict(self) -> Conflict:
        how = "cannot" if self.hard else "must"
        return Conflict(
            f"conflict: unable to delete {_short(self.id)} ({how} be forced) - {self.reason}"
        )


class Removal:
    """Callers hold the store's lock, and sweep afterwards."""

    def __init__(self, tag_store: TagStore, records: Records, users: Users) -> None:
        self._tags, self._records, self._users = tag_store, records, users

    def remove(self, ref: str, *, force: bool, prune: bool) -> Lines:
        """`prune`: parents that nothing needs go too.  NotFound, Conflict; then nothing is done."""
        id = self._tags.find(ref)
        names = self._tags.names(id)
        lines: Lines = []
        with self._tags.atomically():
            if not _is_id(ref, id) or ref in names:
                return self._by_name(id, ref, names, lines, force=force, prune=prune)
            try:
                self._refuse(id, force=force, names=len(names) > 1)
            except _Refused as refused:
                raise refused.conflict() from None
            self._delete(id, lines, self._counted(), prune=prune)
        return lines

    def _by_name(
        self, id: str, ref: str, names: Sequence[str], lines: Lines, *, force: bool, prune: bool
    ) -> Lines:
        users = self._users(id)
        if users and not force and len(names) <= 1:
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - '
                f"{users[0]} is using its referenced image {_short(id)}"
            )
        lines += self._untagged(id, ref, names)
        if self._tags.names(id) or self._tags.digests.names(id):
            return lines  # other names remain: the image stays
        try:
            self._refuse(id, force=force, names=False)
        except _Refused as refused:
            # As Docker: an image with children, or one in use, only loses the name.
            if refused.used or self._tags.children(id):
                return lines
            raise refused.conflict() from None
        self._delete(id, lines, self._counted(), prune=prune)
        return lines

    def _untagged(self, id: str, ref: str, names: Sequence[str]) -> Lines:
        """Remove a name; digests go with the last tag of their repository."""
        name = parse(ref)
        if name.digest and self._tags.digests.find(name.repository, name.digest):
            self._tags.digests.forget(name.repository, name.digest)
            return [{"Untagged": name.name}]
        tag = _name(ref, names)
        self._tags.untag(tag)
        repository = tag.rpartition(":")[0]
        if any(n.rpartition(":")[0] == repository for n in names if n != tag):
            return [{"Untagged": tag}]
        gone = self._tags.digests.forget_all(repository, id)
        return [{"Untagged": each} for each in (tag, *gone)]

    def _refuse(self, id: str, *, force: bool, names: bool) -> None:
        """Raise _Refused for a hard reason, or for a soft one unless it is forced."""
        if self._tags.children(id):
            raise _Refused(id, "image has dependent child images", hard=True)
        users = self._users(id)
        for user in users:
            if user.alive:
                reason = f"image is being used by running {user}"
                raise _Refused(id, reason, hard=True, used=True)
        if force:
            return
        if names:
            raise _Refused(id, "image is referenced in multiple repositories")
        if users:
            reason = f"image is being used by stopped {users[0]}"
            raise _Refused(id, reason, used=True)

    def _delete(self, id: str, lines: Lines, chains: Counter[str], *, prune: bool) -> None:
        """Delete the image with its names, then its parents as far as nothing needs them."""
        while id:
            parent = self._tags.parent(id)
            self._drop(id, lines, chains)
            id = parent if prune else ""
            if id and (self._tags.names(id) or self._tags.children(id) or self._users(id)):
                return

    def _drop(self, id: str, lines: Lines, chains: Counter[str]) -> None:
        named = (*self._tags.names(id), *self._tags.digests.names(id))
        lines += [{"Untagged": name} for name in named]
        mine = self._chains(id)
        if self._users(id):
            self._tags.keep_deleted(id)
        else:
            self._tags.remove(id)
            self._records.forget(id)
            chains.subtract(mine)
        lines.append({"Deleted": id})
        lines += [{"Deleted": chain} for chain in reversed(mine) if not chains[chain]]

    def _counted(self) -> Counter[str]:
        """How many images have each chain of layers."""
        ids = (*self._tags.ids(), *self._tags.deleted_ids())
        return Counter(chain for id in ids for chain in self._chains(id))

    def _chains(self, id: str) -> Sequence[str]:
        try:
            return chain_ids(self._records.layers(id))
        except NotFound:
            return ()  # its configuration is missing, which is reported elsewhere

    def prune(self, filters: Filters) -> Lines:
        pruning = PruneFilter(filters, {"dangling"})
        # As Docker: only images without a name, unless dangling=false.
        dangling = list(filters.get("dangling", ["true"]))[-1:] not in (["false"], ["0"])
        lines: Lines = []
        chains = self._counted()
        for id in reversed(self._tags.ids()):  # children before their parents
            if not self._tags.has(id):
                continue
            image = self._records.image(id)
            if dangling and image.tags:
                continue
            if not pruning.matches(image.created, image.config.labels):
                continue
            with self._tags.atomically():
                if self._users(id):
                    continue
                if not self._tags.children(id):
                    self._delete(id, lines, chains, prune=True)
                else:  # as Docker: it stays for its children, without a name
                    for name in image.tags:
                        lines += self._untagged(id, name, self._tags.names(id))
        return lines


def _name(ref: str, names: Sequence[str]) -> str:
    """The name to remove.  NotFound if a digest is given whose repository has no name here."""
    name = parse(ref)
    if not name.digest:
        return name.name
    for tag in names:
        if tag.rpartition(":")[0] == name.repository:
            return tag
    raise NotFound(f"No such image: {ref}")


def _is_id(ref: str, id: str) -> bool:
    """Is the reference the id or its beginning, and no name?"""
    return id.startswith(ref) if ref.startswith("sha256:") else id[7:].startswith(ref)


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]
