"""The start of a daemon: what rows say of containers, and what is there, brought into agreement."""

from __future__ import annotations

from functools import partial

from netkit import threads
from netkit.network.controller import Networks
from netkit.spec import Sandbox
from runtime.container import restart_policy
from runtime.container.model import Container
from runtime.container.shared_namespaces import home
from runtime.container.store import ContainerStore
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.supervisor import Runs
from runtime.network.name_publisher import Naming
from runtime.network.sandbox import Sandboxes
from runtime.oci.shim import Shim


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
        """What ran on goes on; what was half done is finished or undone; the rest is swept.

        What fails for one container is reported, done later (`Runs.owed`), and does not keep the
        others from being restored.  NetkitError if the networks they share cannot be.
        """
        # Networks before containers: addresses and ports of those that run on are held again before
        # a restart by policy could be given one.  Names before them too: what starts may ask at
        # once.
        live = self._live()
        self._networks.restore(live)
        threads.attempt("restoring names", lambda: self._naming.restore(live))
        for c in self._store.all():
            with self._runs.lock(c.id):
                self._runs.owed.attempt(c, "recovering", partial(self._recover, c))
        # A row that cannot be read has its things on disk all the same: they are not swept.
        known = {c.id for c in self._store.all()} | self._store.unreadable.keys()
        self._launcher.sweep(known)

    def _live(self) -> dict[str, Sandbox]:
        """Sandboxes of containers that ran on: those of their own, and those that they share with
        one that runs again."""
        live: dict[str, Sandbox] = {}
        for c in self._store.all():
            wanted = c.state.alive and not c.extra.get("pending")
            if wanted and self._may_live(c.id, c.state.pid):
                owner = home(c, self._store.find)
                if owner is not None and (owner.state.alive or owner.state.status == "restarting"):
                    live[owner.id] = self._sandboxes.sandbox(owner)
        for id, name in self._store.unreadable.items():
            if self._may_live(id):
                live[id] = Sandbox(id=id, name=name, ns=self._sandboxes.own_namespace(id))
        return live

    def _may_live(self, id: str, pid: int = 0) -> bool:
        """Does its first process live, with this pid if one is given?

        True as well where that cannot be seen: an address in use must not be released.
        """
        try:
            running = self._shim.running(id)
            return running is not None and running.init.alive and pid in {0, running.init.pid}
        except Exception as error:  # noqa: BLE001  reported; it is looked at again
            threads.report(f"looking whether container {id[:12]} runs", error)
            return True

    def _recover(self, c: Container) -> None:
        """Bring one into agreement; may be repeated."""
        running = self._shim.running(c.id)
        self._restore(c, running.init.pid if running and running.init.alive else 0)
        if self._store.get(c.id) is c and not c.state.alive and self._launcher.remains(c):
            self._launcher.abandon(c)  # its end was noted, and not cleaned up after

    def _restore(self, c: Container, pid: int) -> None:
        # The order is that of certainty: what was to go goes whatever its process does, what was
        # begun is undone though it may run, and only then is the process asked.
        pending = c.extra.get("pending")  # begun, never acknowledged
        if c.state.status in {"removing", "dead"} or pending == "create":
            self._runs.drop(c)
        elif pending:
            self._undo_start(c)
        elif c.state.alive and pid == c.state.pid:
            self._go_on(c)
        elif c.state.alive:
            self._runs.finish(c, self._launcher.post_mortem(c))
        elif c.state.status == "restarting":
            self._runs.launch_later(c, 0)
        elif c.state.status == "exited" and c.host_config.auto_remove:
            self._runs.drop(c)  # a --rm that fell due while no daemon ran

    def _go_on(self, c: Container) -> None:
        """It ran on; a pause of it may have been cut short."""
        status = "paused" if self._launcher.paused(c) else "running"
        if self._sandboxes.agree(c) or status != c.state.status:
            c.state.status = status
            self._runs.owed.save(c)
        self._runs.adopt(c)

    def _undo_start(self, c: Container) -> None:
        self._launcher.abandon(c)
        del c.extra["pending"]
        was = c.state.status
        c.state.status = "exited" if c.state.ever_started else "created"
        self._runs.owed.save(c)
        if c.host_config.auto_remove:
            self._runs.drop(c)
        elif was == "restarting":
            c.state.status = "restarting"
            self._runs.launch_later(c, 0)

    def start_due(self) -> None:
        """Those whose policy wants them up after the daemon was down."""
        for c in reversed(self._store.all()):
            due = restart_policy.after_boot(
                c.host_config.restart_policy,
                was_running=False,
                stopped=c.manually_stopped,
                exit_code=c.state.exit_code,
            )
            if due and c.state.ever_started and c.state.status == "exited":
                c.state.status = "restarting"
                self._runs.launch_in(c, 0.0)
