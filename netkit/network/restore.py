"""Restore after a start of the daemon: reconcile rows, host and running containers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial

import msgspec

from netkit import threads
from netkit.errors import NetkitError
from netkit.model import Key, Resource
from netkit.network.context import NetworkContext
from netkit.network.endpoint_store import PENDING, READY, EndpointStore, SandboxRecord
from netkit.network.entry import NetworkEntry
from netkit.network.sandbox import SandboxController
from netkit.network.unreadable_rows import Unread, unread, without_kept
from netkit.portallocator import PortAllocator
from netkit.reconcile.converge import Change, Converger
from netkit.spec import EndpointRecord, Sandbox

log = logging.getLogger(__name__)


def restore_sandboxes(
    records: EndpointStore, sandboxes: SandboxController, live: Mapping[str, Sandbox]
) -> None:
    """Close sandboxes without a process; undo, in the others, what was begun but not acknowledged.

    A sandbox with a process is kept whatever the state of its row: its addresses are in use.
    """
    ready = records.ready()
    for state, opened in records.sandboxes():
        id = opened.sandbox.id
        if id not in live:
            _try(f"close {opened.sandbox.name}", partial(sandboxes.close, id))
            continue
        if state != READY:
            log.warning("container %s runs with an incomplete network: kept", live[id].name)
            records.save(records.of_sandbox(sandbox=id))
        if state != READY or opened.sandbox != live[id] or not records.readable(id):
            records.save_sandbox(msgspec.structs.replace(opened, sandbox=live[id]), READY)
        for record in ready(id):
            undo = partial(sandboxes.readdressing.undo_cut_short, record)
            _try(f"undo a change of {record.owner_name}'s addresses", undo)
    for record in records.unfinished():
        if record.sandbox in live:
            what = f"take {record.owner_name} from network {record.network[:12]}"
            _try(what, partial(sandboxes.ending.remove_endpoint, record))


def _try(what: str, act: Callable[[], object]) -> None:
    """Do it; a failure is logged, and tried again by guards or by the next start."""
    threads.attempt(what, act)


def restore_networks(parts: NetworkContext) -> None:
    """Undo creations and finish removals that were cut short."""
    for name in parts.registry.drop_unreadable():
        log.info("network %s: its row cannot be read, and it was not ready: removed", name)
    for state, entry in parts.registry.unfinished():
        try:
            undo_network(parts, entry)
        except Exception as error:  # noqa: BLE001  it does not stop the others
            threads.report(f"removing network {entry.name}", error)
            continue
        doing = "creation" if state == PENDING else "removal"
        log.info("network %s: its %s was cut short, removed", entry.name, doing)


def undo_network(parts: NetworkContext, entry: NetworkEntry, *, touched: bool = True) -> None:
    """Remove all of a network that is not ready; raises NetkitError where that fails, and
    it is tried again.  Unless `touched`, nothing of it was begun on the host."""
    try:
        _undo_network(parts, entry, touched=touched)
    except Exception as error:
        undo_later(parts, entry, error)
        raise


def stay(parts: NetworkContext, entry: NetworkEntry, error: BaseException) -> None:
    """Keep a network after a failed removal; later, if the database does not take that."""

    def act() -> bool:
        parts.registry.undo_removing(entry)
        return True

    try:
        act()
    except Exception as bad:  # noqa: BLE001  the first error is the one that matters
        error.add_note(f"could not keep network {entry.name}, will try again: {bad}")
        about = (entry.record.id, entry.name)
        parts.retries.add(about, f"keeping network {entry.name}", act, bad)


def undo_later(parts: NetworkContext, entry: NetworkEntry, error: Exception) -> None:
    about, what = (entry.record.id, entry.name), f"removing network {entry.name}"
    parts.retries.add(about, what, partial(_undo_network, parts, entry), error)


def _undo_network(parts: NetworkContext, entry: NetworkEntry, *, touched: bool = True) -> bool:
    if entry.record.id in {e.record.id for _, e in parts.registry.unfinished()}:
        if touched:
            parts.converger.converge(Change.of({}, parts.desired_state.of_network(entry)))
        parts.registry.delete(entry.record.id)
    return True


def converge_everything(
    parts: NetworkContext,
    sandboxes: SandboxController,
    live: Mapping[str, Sandbox],
    before_sweep: Callable[[], None],
) -> None:
    """Converge to everything that is ready; then delete what has our mark and is in no row.

    What cannot be had for one network or container is logged, and does not stop the others.
    """
    # One change for all networks: a start with a hundred of them is one look and one batch.
    rows = unread(parts)
    base = {**parts.desired_state.base(), **parts.desired_state.networks(parts.registry.all())}
    try:
        parts.converger.converge(Change.of(without_kept(parts.converger, base, rows)))
    except NetkitError:
        _each_network(parts, rows)
    wanted: set[Key] = {*base, *(("netns", s.ns) for s in live.values())}
    together = Together(parts.converger)
    ready, rules = parts.records.ready(), parts.policies.at_once()
    joined_all: list[EndpointRecord] = []
    for _, opened in parts.records.sandboxes():
        joined = sandboxes.attach_entries(ready(opened.sandbox.id))
        access = parts.policies.resolve(joined, rules)
        state = parts.desired_state.of_sandbox(opened.sandbox, joined, access)
        wanted.update(state)
        if opened.sandbox.id not in live:
            continue  # could not be closed: not made anew, and not swept, since a retry closes it
        change = Change.of(without_kept(parts.converger, state, rows))
        together.add(f"restore the network of {opened.sandbox.name}", change)
        parts.policies.set_applied(access)
        _hold_ports(parts.ports, opened)
        joined_all += [r for _, r in joined]
    together.finish()
    parts.names.publish(joined_all, ())
    # Last: until everything that is ready has been made, what has our mark may be what a row needs,
    # and what is removed too early cuts off containers that ran on.
    before_sweep()
    _remove_unwanted(parts, wanted)


class Together:
    """Converge to several changes at a time; where that fails, to each by itself, reported."""

    # Changes at a time.  Fewer than the sockets of a look (OPEN_AT_ONCE of netkit.kernel.session):
    # else each namespace is opened anew for each of its passes over all of them.
    MOST = 60

    def __init__(self, converger: Converger) -> None:
        self._converger = converger
        self._waiting: list[tuple[str, Change]] = []
        self._desired: dict[Key, Resource] = {}

    def add(self, what: str, change: Change) -> None:
        contradicts = any(self._desired.get(k, r) != r for k, r in change.desired.items())
        if contradicts or len(self._waiting) >= self.MOST:
            self.finish()
        self._waiting.append((what, change))
        self._desired |= change.desired

    def finish(self) -> None:
        waiting, desired = self._waiting, self._desired
        self._waiting, self._desired = [], {}
        if len(waiting) > 1:
            try:
                self._converger.converge(Change.of(desired))
            except NetkitError as error:
                log.info("%d networks of containers one by one, as: %s", len(waiting), error)
            else:
                return
        for what, change in waiting:
            _try(what, partial(self._converger.converge, change))


def _each_network(parts: NetworkContext, rows: Unread) -> None:
    """Converge to each by itself: a missing NIC fails one network, not the others nor the daemon.

    Errors of the predefined ones are raised: without them the daemon does not start.
    """
    entries = parts.registry.all()
    builtin = [e for e in entries if e.record.builtin]
    base = {**parts.desired_state.base(), **parts.desired_state.networks(builtin)}
    parts.converger.converge(Change.of(base))
    for entry in (e for e in entries if not e.record.builtin):
        alone = Change.of(
            without_kept(parts.converger, parts.desired_state.networks([entry]), rows)
        )
        _try(f"restore network {entry.name}", partial(parts.converger.converge, alone))


def _remove_unwanted(parts: NetworkContext, wanted: Collection[Key]) -> None:
    """Delete what has our mark and is not wanted; shared chains have no owner, and stay."""
    stale, rows = parts.converger.owned(parts.desired_state.prefix), unread(parts)
    away = {k: r for k, r in stale.items() if k not in wanted and not rows.keeps(r)}
    if away:
        log.info("deleting %d leftovers: they have our mark and are in no row", len(away))
        _try("sweep", partial(parts.converger.converge, Change.of({}, away)))


def _hold_ports(ports: PortAllocator, opened: SandboxRecord) -> None:
    if not opened.held:
        return
    box = opened.sandbox
    problems = ports.restore(box.id, opened.held, box.name, bind=not box.binds_ports)
    for problem in problems:
        log.warning("container %s: published all the same, but %s", opened.sandbox.name, problem)
