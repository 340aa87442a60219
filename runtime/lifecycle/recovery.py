"""Recover containers when the daemon starts: reconcile stored rows with running processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from netkit import threads
from netkit.network.controller import Controller
from netkit.spec import Sandbox
from runtime.container import restart_policy
from runtime.container.model import Container
from runtime.container.shared_namespaces import home
from runtime.container.store import ContainerStore
from runtime.lifecycle.commit import COMMITTING
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.supervisor import Supervisor
from runtime.network.name_publisher import DnsPublisher
from runtime.network.sandbox import ContainerNetwork
from runtime.oci.shim import Shim


class Recovery:
    def __init__(
        self,
        store: ContainerStore,
        shim: Shim,
        launcher: Launcher,
        sandboxes: ContainerNetwork,
        supervisor: Supervisor,
        networks: Controller,
        dns_publisher: DnsPublisher,
    ) -> None:
        self._store = store
        self._shim = shim
        self._launcher = launcher
        self._sandboxes = sandboxes
        self._supervisor = supervisor
        self._networks = networks
        self._dns_publisher = dns_publisher
        self.other_engines: list[Callable[[], Mapping[str, Sandbox]]] = []
        """Each returns the sandboxes, by id, of containers that another engine runs on."""

    def restore(self) -> None:
        """Adopt running containers, finish or undo interrupted operations, sweep leftovers.

        What fails for one container is reported and retried (`Supervisor.owed`), and keeps no
        others from being restored.  NetkitError if the networks they share cannot be restored.
        """
        # Networks before containers: addresses and ports of running containers are reserved before
        # a restart by policy could be allocated one of them.  Names before containers too: what
        # starts may send queries at once.
        live = self._live()
        for of_engine in self.other_engines:
            live.update(of_engine())
        with self._dns_publisher.gathering():
            self._networks.restore(live)
        threads.attempt("restoring names", self._dns_publisher.restore)
        left = self._leftovers()
        for c in self._store.all():
            with self._supervisor.lock(c.id):
                self._supervisor.owed.attempt(c, "recovering", partial(self._recover, c, left))
        # A container whose row cannot be read still has its files and perhaps a process: keep them.
        known = {c.id for c in self._store.all()} | self._store.unreadable.keys()
        self._launcher.sweep(known)

    def _live(self) -> dict[str, Sandbox]:
        """Sandboxes that running containers use, their own or another container's, by id.

        A shared sandbox counts only if its owner runs or is about to restart: otherwise it was
        closed when the owner stopped.
        """
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
        """Does its first process run, with this pid if one is given?

        True as well where that cannot be determined: an address in use must not be released.
        """
        try:
            running = self._shim.running(id)
            return running is not None and running.init.alive and pid in {0, running.init.pid}
        except Exception as error:  # noqa: BLE001  reported; `_recover` checks again
            threads.report(f"checking whether container {id[:12]} runs", error)
            return True

    def _leftovers(self) -> set[str]:
        """Ids of containers of which anything may be left on the host: one look for all."""
        try:
            return self._launcher.leftovers()
        except Exception as error:  # noqa: BLE001  reported; each is looked at
            threads.report("listing what is left of containers that do not run", error)
            return {c.id for c in self._store.all()}

    def _recover(self, c: Container, left: Collection[str]) -> None:
        """Reconcile one container with its process; may be repeated.

        `left`: ids of containers of which anything was left when the daemon started.
        """
        running = self._shim.running(c.id)
        self._restore(c, running.init.pid if running and running.init.alive else 0)
        over = self._store.get(c.id) is c and not c.state.alive
        if over and c.id in left and self._launcher.leftover_ids(c):
            self._launcher.abandon(c)  # its exit was recorded, and the clean-up cut short

    def _restore(self, c: Container, pid: int) -> None:
        # The order matters: a removal is completed whatever the process does, an interrupted start
        # is undone even if the process runs (its client got no answer, and its set-up may be
        # incomplete), and only then does the process decide.
        pending = c.extra.get("pending")  # started, never completed
        if c.state.status in {"removing", "dead"} or pending == "create":
            self._supervisor.remove(c)
        elif pending:
            self._undo_start(c)
        elif c.state.alive and pid == c.state.pid:
            self._go_on(c)
        elif c.state.alive:
            self._supervisor.handle_exit(c, self._launcher.read_exit(c))
        elif c.state.status == "restarting":
            self._supervisor.launch_later(c, 0)
        elif c.state.status == "exited" and c.host_config.auto_remove:
            self._supervisor.remove(c)  # --rm, and the daemon stopped before it was removed

    def _go_on(self, c: Container) -> None:
        """Adopt a running container; `pause` may have been cut short before its row was saved."""
        if c.extra.pop(COMMITTING, None) and self._launcher.paused(c):
            self._launcher.resume(c)  # the daemon ended during a commit
        status = "paused" if self._launcher.paused(c) else "running"
        if self._sandboxes.reconcile_after_crash(c) or status != c.state.status:
            c.state.status = status
            self._supervisor.owed.save(c)
        self._supervisor.adopt(c)

    def _undo_start(self, c: Container) -> None:
        self._launcher.abandon(c)
        del c.extra["pending"]
        was = c.state.status
        c.state.status = "exited" if c.state.ever_started else "created"
        self._supervisor.owed.save(c)
        if c.host_config.auto_remove:
            self._supervisor.remove(c)
        elif was == "restarting":
            c.state.status = "restarting"
            self._supervisor.launch_later(c, 0)

    def start_by_policy(self) -> None:
        """Start containers whose restart policy asks for it after a start of the daemon."""
        for c in reversed(self._store.all()):
            due = restart_policy.should_start_at_boot(
                c.host_config.restart_policy,
                was_running=False,
                stopped=c.manually_stopped,
                exit_code=c.state.exit_code,
            )
            if due and c.state.ever_started and c.state.status == "exited":
                c.state.status = "restarting"
                self._supervisor.launch_in(c, 0.0)
