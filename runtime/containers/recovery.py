"""The start of a daemon: what rows say of containers, and what is there, brought into agreement."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from netkit.errors import NetkitError
from netkit.networks import Networks
from netkit.spec import Sandbox
from runtime.containers import restart
from runtime.containers.launch import Launcher
from runtime.containers.model import Container
from runtime.containers.naming import Naming
from runtime.containers.runs import Runs
from runtime.containers.sandboxes import Sandboxes
from runtime.containers.store import ContainerStore
from runtime.oci.shim import Running, Shim


class Recovery:
    def __init__(
        self,
        store: ContainerStore,
        shim: Shim,
        launcher: Launcher,
        sandboxes: Sandboxes,
        runs: Runs,
        networks: Networks,
        naming: Naming,
    ) -> None:
        self._store = store
        self._shim = shim
        self._launcher = launcher
        self._sandboxes = sandboxes
        self._runs = runs
        self._networks = networks
        self._naming = naming

    def restore(self) -> None:
        """What ran on goes on; what was half done is finished or undone; the rest is swept."""
        known = self._shim.known()
        live = self._live(known)
        self._networks.restore(live)
        self._naming.restore(live)
        remains = self._launcher.remains()
        for c in self._store.all():
            with self._runs.lock(c.id):
                running = known.get(c.id)
                self._restore(c, running.init.pid if running else None)
                if c.id in remains and not c.state.alive and self._store.get(c.id) is c:
                    self._launcher.abandon(c)  # its end was noted, and not cleaned up after
        self._launcher.sweep({c.id for c in self._store.all()} | self._store.unreadable)

    def _live(self, known: Mapping[str, Running]) -> dict[str, Sandbox]:
        """Sandboxes of containers that ran on, and have one of their own."""
        live: dict[str, Sandbox] = {}
        for c in self._store.all():
            running = known.get(c.id)
            if running is None or not c.state.alive or c.extra.get("pending"):
                continue
            if running.init.pid == c.state.pid and c.host_config.network_of is None:
                live[c.id] = self._sandboxes.sandbox(c)
        return live

    def _restore(self, c: Container, pid: int | None) -> None:
        if c.state.status in {"removing", "dead"}:
            with suppress(NetkitError):
                self._runs.drop(c)
            return
        pending = c.extra.pop("pending", None)  # begun, never acknowledged
        if pending == "create":
            self._runs.drop(c)
        elif pending:
            self._undo_start(c)
        elif c.state.alive and pid == c.state.pid:
            if self._sandboxes.agree(c):
                self._store.save(c)
            self._runs.adopt(c)
        elif c.state.alive:
            self._runs.finish(c, self._launcher.post_mortem(c))
        elif c.state.status == "restarting":
            self._runs.launch_later(c, 0)
        elif c.state.status == "exited" and c.host_config.auto_remove:
            self._runs.drop(c)  # a --rm that fell due while nobody was there

    def _undo_start(self, c: Container) -> None:
        self._launcher.abandon(c)
        was = c.state.status
        c.state.status = "exited" if c.state.ever_started else "created"
        self._store.save(c)
        if c.host_config.auto_remove:
            self._runs.drop(c)
        elif was == "restarting":
            c.state.status = "restarting"
            self._runs.launch_later(c, 0)

    def start_due(self) -> None:
        """Those whose policy wants them up after the daemon was down."""
        for c in reversed(self._store.all()):
            due = restart.after_boot(
                c.host_config.restart_policy,
                was_running=False,
                stopped=c.manually_stopped,
                exit_code=c.state.exit_code,
            )
            if due and c.state.ever_started and c.state.status == "exited":
                c.state.status = "restarting"
                self._runs.launch_in(c, 0.0)
