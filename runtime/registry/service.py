"""Registries as the API and builds see them: pull, push, search, log in, look up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from netkit.client.credentials import hostname as hostname_of
from netkit.errors import InvalidSpec, NetkitError, NotFound
from runtime.cancellation import Cancel, Cancelled
from runtime.events import EventBus
from runtime.images.pulling import Login, Logins, Progress, no_logins, quiet
from runtime.images.reference import Reference
from runtime.images.store import ImageStore
from runtime.registry import failures, logging_in, lookup, manifests, searching, tagging
from runtime.registry.connection import resolve
from runtime.registry.credentials import own_login
from runtime.registry.endpoints import Endpoint, Repository, endpoints, repository
from runtime.registry.failures import Refused
from runtime.registry.guard import Dropped
from runtime.registry.known import KnownBlobs
from runtime.registry.lookup import Found
from runtime.registry.progress import message
from runtime.registry.pull import Pull, Slots
from runtime.registry.push import Push
from runtime.registry.session import Session
from runtime.registry.settings import HUB, HUB_NAMES, RegistrySettings

T = TypeVar("T")

_LOOKUP_SECONDS = 3.0  # for the addresses of a host that might be insecure


class RegistryService:
    """Implements ports.Registries and images.pulling.Puller.  Thread-safe."""

    def __init__(
        self, store: ImageStore, known: KnownBlobs, events: EventBus, settings: RegistrySettings
    ) -> None:
        self._store, self._known, self._events = store, known, events
        self._names = store.registry_names
        self._settings = settings
        self._down, self._up = Slots(settings.downloads), Slots(settings.uploads)

    @property
    def settings(self) -> RegistrySettings:
        return self._settings

    def configure(self, settings: RegistrySettings) -> None:
        """For operations that begin from now on."""
        if settings.downloads != self._settings.downloads:
            self._down = Slots(settings.downloads)
        if settings.uploads != self._settings.uploads:
            self._up = Slots(settings.uploads)
        self._settings = settings

    # pull

    def pull(
        self,
        name: Reference,
        *,
        platform: str = "",
        logins: Logins = no_logins,
        progress: Progress = quiet,
        cancel: Cancel | None = None,
    ) -> str:
        """See images.pulling.Puller."""
        ids = self._pulled(name, platform, logins, progress, cancel or Cancel(), every=False)
        return ids[0]

    def pull_all(
        self,
        name: Reference,
        *,
        platform: str = "",
        logins: Logins = no_logins,
        progress: Progress = quiet,
        cancel: Cancel | None = None,
    ) -> list[str]:
        """Pull all tags of a repository; ids of the images."""
        return self._pulled(name, platform, logins, progress, cancel or Cancel(), every=True)

    def _pulled(
        self, name: Reference, platform: str, logins: Logins, progress: Progress, cancel: Cancel,
        *, every: bool,
    ) -> list[str]:  # fmt: skip
        wanted = manifests.platform(platform)
        settings, where = self._settings, repository(name)

        def one(session: Session, inner: Cancel) -> list[str]:
            work = Pull(
                store=self._store, known=self._known, slots=self._down, session=session,
                settings=settings, repository=where, platform=wanted, explicit=bool(platform),
                progress=progress, cancel=inner,
            )  # fmt: skip
            names = [name]
            if every:
                tags = tagging.tags(session, where)
                names = [replace(name, tag=tag, digest="") for tag in tags]
            found = []
            for each in names:
                found.append(work.one(each))
                self._emit("pull", each)
            return found

        try:
            return self._anywhere(where, logins, cancel, one)
        except Refused as error:
            raise failures.of_pull(error, name.repository, name.name) from error

    # push

    def push(
        self, name: Reference, *, logins: Logins, progress: Progress, cancel: Cancel, every: bool
    ) -> None:
        """Push a tag ("latest" if there is none), or with `every` all tags of the repository.

        NotFound if there is none here; else what the registry answers.
        """
        where = repository(name)
        if name.digest:
            raise InvalidSpec("cannot push a digest reference")
        names = self._names.tags_in(name.repository)
        if not names:
            raise NotFound(f"An image does not exist locally with the tag: {name.repository}")
        message(progress, f"The push refers to repository [{where.full}]")
        tags = [n.rpartition(":")[2] for n in names] if every else [name.tag or "latest"]

        def act(session: Session, inner: Cancel) -> None:
            work = Push(
                store=self._store, known=self._known, slots=self._up, session=session,
                settings=self._settings, repository=where, progress=progress, cancel=inner,
            )  # fmt: skip
            for tag in tags:
                each = replace(name, tag=tag)
                id = self._names.named(each)
                if id is None:
                    raise NotFound(f"tag does not exist: {each.name}")
                digest = work.one(self._store.find(id), tag)
                self._names.pushed(id, each, digest)
                self._emit("push", each)

        with self._store.holding():  # its layers stay, though the image be removed meanwhile
            self._anywhere(where, logins, cancel, act, mirrors=False)

    # looking

    def look(self, name: Reference, logins: Logins, cancel: Cancel) -> Found:
        """The manifest or index that a tag or digest is, and its platforms.  As `pull` raises."""
        where = repository(name)

        def act(session: Session, inner: Cancel) -> Found:
            return lookup.found(session, where, name)

        try:
            return self._anywhere(where, logins, cancel, act)
        except Refused as error:
            raise failures.of_pull(error, name.repository, name.name) from error

    def login(self, login: Login, cancel: Cancel) -> str:
        """Try credentials; the identity token that replaces them, or "".  Unauthorized."""
        host = hostname_of(login.server) or HUB
        where = Repository(registry=HUB if host in HUB_NAMES else host, path="")

        def act(session: Session, inner: Cancel) -> str:
            return logging_in.log_in(session)

        return self._anywhere(where, lambda registry: login, cancel, act, mirrors=False)

    def search(
        self, term: str, limit: int, logins: Logins, cancel: Cancel
    ) -> list[dict[str, Any]]:
        """Images of an index that match: HOST/TERM, or TERM at Docker's."""
        return searching.search(self._settings, _lookup(cancel), term, limit, logins, cancel)

    def _emit(self, action: str, name: Reference) -> None:
        self._events.emit("image", action, name.name, {"name": name.repository})

    # endpoints

    def _anywhere(
        self,
        where: Repository,
        logins: Logins,
        cancel: Cancel,
        act: Callable[[Session, Cancel], T],
        *,
        mirrors: bool = True,
    ) -> T:
        """Do it at the first endpoint that answers; a mirror that fails is passed over silently.

        The last endpoint's error is raised.
        """
        settings = self._settings
        ways = endpoints(where.registry, settings, _lookup(cancel), mirrors=mirrors)
        for way in ways[:-1]:
            try:
                return self._at(way, where, logins, cancel, act)
            except Cancelled:
                raise
            except NetkitError as error:
                if not way.mirror and not isinstance(error, _NoAnswer):
                    raise
        return self._at(ways[-1], where, logins, cancel, act)

    def _at(
        self,
        way: Endpoint,
        where: Repository,
        logins: Logins,
        cancel: Cancel,
        act: Callable[[Session, Cancel], T],
    ) -> T:
        host = way.host if way.mirror else where.registry
        login = (None if way.mirror else logins(host)) or own_login(self._settings.logins, host)
        inner = Cancel(cancel)
        with self._session(way, login, inner) as session:
            return act(session, inner)

    @contextmanager
    def _session(self, way: Endpoint, login: Login | None, cancel: Cancel) -> Iterator[Session]:
        with Session(way, self._settings, login, cancel) as session:
            try:
                session.ping().document(1 << 16)
            except Dropped as error:
                raise _NoAnswer(str(error)) from error
            yield session


class _NoAnswer(Dropped):
    """The endpoint cannot be reached, or speaks another protocol: try the next one."""


def _lookup(cancel: Cancel):  # type: ignore[no-untyped-def]
    def addresses(host: str) -> list[str]:
        with suppress(Dropped):
            return list(resolve(host, cancel, time.monotonic() + _LOOKUP_SECONDS))
        return []

    return addresses
