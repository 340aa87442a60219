"""Reload the configuration while the daemon runs, on SIGHUP, as dockerd does."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Protocol

from netkit.errors import NetkitError
from runtime.daemon import registry_keys
from runtime.daemon.bootstrap_registry import settings
from runtime.daemon.config import DaemonConfig
from runtime.events import EventBus
from runtime.system import SystemService

if TYPE_CHECKING:
    from runtime.registry.service import RegistryService

log = logging.getLogger("netkit.daemon")

RELOADED = (
    "debug", "insecure_registries", "labels", "log_level", "max_concurrent_downloads",
    "max_concurrent_uploads", "max_download_attempts", "registry_mirrors",
)  # fmt: skip
_NO_SETTING = ("warnings", "folder")  # fields that come of the others


class Engine(Protocol):
    @property
    def registries(self) -> RegistryService: ...
    @property
    def system(self) -> SystemService: ...
    @property
    def events(self) -> EventBus: ...


class Reload:
    """Applies a fresh configuration to a running engine.  A bad one changes nothing."""

    def __init__(
        self, config: DaemonConfig, read: Callable[[], DaemonConfig], engine: Engine, id: str,
        level: Callable[[DaemonConfig], int],
    ) -> None:  # fmt: skip
        """`level`: that of the log, for logging.  `id`: of the engine."""
        self._config, self._read, self._engine, self._id = config, read, engine, id
        self._level = level

    def __call__(self) -> None:
        """Blocks: reads files.  What comes of it is logged."""
        try:
            fresh = self._read()
        except NetkitError as error:
            log.error("reload: the configuration stays as it is: %s", error)
            return
        changed = _changed(self._config, fresh)
        for name in sorted(changed - set(RELOADED)):
            log.warning("reload: %s needs a restart of netkitd", _shown(name))
        logging.getLogger().setLevel(self._level(fresh))
        self._engine.registries.configure(settings(fresh))
        facts = {"RegistryConfig": registry_keys.shown(
            fresh.registry_mirrors, fresh.insecure_registries
        )}  # fmt: skip
        self._engine.system.configure(labels=fresh.labels, debug=fresh.debug, facts=facts)
        now = {_shown(name): getattr(fresh, name) for name in RELOADED}
        log.info("reloaded: %s", json.dumps(now, sort_keys=True))
        kept = {name: getattr(self._config, name) for name in changed - set(RELOADED)}
        self._config = _with(fresh, kept)
        self._engine.events.emit("daemon", "reload", self._id, _attributes(now))


def _changed(before: DaemonConfig, after: DaemonConfig) -> set[str]:
    return {
        field.name
        for field in fields(DaemonConfig)
        if field.name not in _NO_SETTING
        and getattr(before, field.name) != getattr(after, field.name)
    }


def _with(config: DaemonConfig, values: dict[str, Any]) -> DaemonConfig:
    """What needs a restart is said again by the next reload."""
    return replace(config, **values)


def _shown(name: str) -> str:
    return name.replace("_", "-")


def _attributes(now: dict[str, Any]) -> dict[str, str]:
    texts = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in now.items()
    }
    return {"name": socket.gethostname(), **texts}


async def on_signal(hangup: asyncio.Event, reload: Callable[[], None]) -> None:
    """Reload each time the event is set; runs until it is cancelled."""
    while True:
        await hangup.wait()
        hangup.clear()
        await asyncio.to_thread(reload)
