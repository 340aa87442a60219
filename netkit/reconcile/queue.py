"""One thread that applies changes, several at a time: what waits together is one change.

    callers --> queue --> group --> observe, diff, apply, verify   once for all of them
                                \\-> if that fails: undo, then each change by itself

The outcome of each change is as if they had been made one after the other.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self

from netkit import threads
from netkit.errors import (
    Conflict,
    KernelError,
    NetkitError,
    NotConverged,
    Unreachable,
    unexpected,
)
from netkit.model import Key, Resource, State
from netkit.reconcile.converge import Change, Kernel, converge, execute, fill_unobservable, undo
from netkit.reconcile.plan import OwnedPredicate, Plan, diff
from netkit.reconcile.statistics import (
    CHANGED,
    CONFLICT,
    FAILED,
    LATE,
    UNCHANGED,
    ChangeStatistics,
)

NOTHING = Change.of({})
PATIENCE = 120.0  # seconds a change waits for its turn
SERVICES = 6.0  # seconds in which it is begun again where a service is lost: an election takes 4

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Task:
    """`late` computes the change when its turn has come; it is never grouped."""

    change: Change
    outcome: Future[Plan] = field(default_factory=Future)
    late: Callable[[], Change] | None = None
    dry: bool = False  # only plan the steps
    begin: float = field(default_factory=time.monotonic)


class ReconcileQueue:
    """A netkit.reconcile.converge.Converger around one kernel.

    `ready` waits until the services that keep resources of these kinds answer, or raises
    KernelError: on the thread that asks for a change, so that others' changes go on meanwhile.
    """

    def __init__(
        self,
        kernel: Kernel,
        mine: OwnedPredicate,
        ready: Callable[[frozenset[str]], object] = lambda _: None,
    ) -> None:
        self._kernel = kernel
        self._ready = ready
        self._mine = mine
        self._waiting: list[_Task] = []
        self._wake = threading.Condition()
        self._closed = False
        self.statistics = ChangeStatistics()
        self._thread = threads.looping("netkit-kernel", self._loop, over=lambda: self._closed)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def converge(self, change: Change, timeout: float = PATIENCE) -> Plan:
        """Apply all of the change or nothing of it; return the steps taken.  Blocks.

        Raises Conflict (nothing touched), KernelError (everything undone, or not begun within
        `timeout` seconds) or NotConverged; KernelError also for what is not a NetkitError, which
        is logged with its traceback.  A change once begun is waited for: each of its steps
        has a time limit of its own.
        """
        kinds = frozenset(key[0] for key in change.desired)
        deadline, undone = time.monotonic() + SERVICES, False
        while True:
            try:
                self._ready(kinds)
            except KernelError as error:
                error.nothing_applied = True
                raise
            try:
                return self._await(_Task(change), timeout)
            except Unreachable as error:
                # It answered, and then not within the short time that it gets while other changes
                # wait: an election, most likely.  Everything was undone.
                if error.kinds.isdisjoint(kinds) or time.monotonic() >= deadline:
                    raise
                log.info("once more: %s", error)
            except NotConverged as error:
                # Another tool was faster, or a service that keeps nothing on disk died between its
                # answer and the look: now it is there again, or it is named.
                if undone:
                    raise
                undone = True
                log.info("once more: %s", error)

    def converge_lazily(
        self, change: Callable[[], Change], *, dry: bool = False, timeout: float = PATIENCE
    ) -> Plan:
        """As `converge`, of what `change` returns once all earlier changes have been made.

        No other change is made before it is applied.  `change` must not wait for a thread.
        With `dry` nothing is done.
        """
        return self._await(_Task(NOTHING, late=change, dry=dry), timeout)

    @property
    def waiting(self) -> int:
        """How many changes have not begun."""
        return len(self._waiting)

    def _await(self, task: _Task, timeout: float) -> Plan:
        try:
            plan = self._outcome(task, timeout)
        except NetkitError as error:
            late = isinstance(error, KernelError) and task.outcome.cancelled()
            self._count(task, CONFLICT if isinstance(error, Conflict) else LATE if late else FAILED)
            raise
        self._count(task, CHANGED if plan else UNCHANGED, len(plan))
        return plan

    def _count(self, task: _Task, outcome: str, steps: int = 0) -> None:
        if task.late is None:  # else it looks for drift
            self.statistics.add(outcome, time.monotonic() - task.begin, steps)

    def _outcome(self, task: _Task, timeout: float) -> Plan:
        with self._wake:
            if self._closed:
                raise KernelError("netkit is shutting down: the change was not begun")
            self._waiting.append(task)
            self._wake.notify()
        try:
            return task.outcome.result(timeout)
        except TimeoutError:
            # Succeeds only for a change that was not begun.  One that was is waited for, however
            # long: the caller writes rows by its outcome.
            if task.outcome.cancel():
                late = f"the kernel was busy for {timeout:g} s: the change was not begun"
                raise KernelError(late, errno=errno.ETIMEDOUT) from None
            return task.outcome.result()

    def observe(self, keys: Iterable[Key]) -> State:
        """Those of `keys` that exist, as they are."""
        # Past the queue: a look changes nothing, and must not wait for a change of 100 containers.
        return self._kernel.observe(keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        """Everything on the host whose owner mark starts with `prefix`: a full scan."""
        return self._kernel.owned(prefix, policy=policy)

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _loop(self) -> None:
        while tasks := self._next():
            try:
                for group in _groups(tasks):
                    self._settle([t for t in group if t.outcome.set_running_or_notify_cancel()])
            except BaseException as error:
                for task in (t for t in tasks if not t.outcome.done()):
                    task.outcome.set_exception(unexpected(error))
                raise

    def _next(self) -> list[_Task]:
        """Wait for tasks and return all; none once closed."""
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait()
            tasks, self._waiting = self._waiting, []
            return tasks

    def _settle(self, group: Sequence[_Task]) -> None:
        # One caller's change must not fail for another's: what fails together is undone and
        # tried one by one.
        plan = self._together([t.change for t in group]) if len(group) > 1 else None
        if plan is not None:
            for task, part in zip(group, _shares(plan, group), strict=True):
                task.outcome.set_result(part)
            return
        for task in group:
            try:
                task.outcome.set_result(self._alone(task))
            except NetkitError as e:  # raised again where the change came from
                task.outcome.set_exception(e)
            except BaseException as e:  # noqa: BLE001  likewise, as a NetkitError
                threads.report("a change of the host", e)
                task.outcome.set_exception(unexpected(e))

    def _alone(self, task: _Task) -> Plan:
        change = task.change if task.late is None else task.late()
        if task.dry:
            return diff(change.desired, self._seen(change), self._mine)
        return converge(change, self._kernel, self._mine)

    def _together(self, changes: Sequence[Change]) -> Plan | None:
        """Apply all changes as one and return the steps; None: undone, to be tried one by one."""
        one = _merged(changes)
        try:
            plan = diff(one.desired, self._seen(one), self._mine)
            execute(plan, self._kernel)
        except Exception as error:  # noqa: BLE001  alone, it reaches the caller it concerns
            _each_alone(changes, error)
            return None
        why: Exception = NetkitError("still something to do after every step succeeded")
        try:
            if not diff(one.desired, self._seen(one), self._mine):
                return plan
        except Exception as bad:  # noqa: BLE001  likewise
            why = bad
        undo(plan, self._kernel, why)
        _each_alone(changes, why)
        return None

    def _seen(self, change: Change) -> State:
        return fill_unobservable(self._kernel.observe(change.scope), change.known)


def _each_alone(changes: Sequence[Change], error: Exception) -> None:
    log.info("%d changes failed as one, trying each by itself: %s", len(changes), error)
    for note in threads.notes(error):
        log.warning("%s", note)
    if not isinstance(error, NetkitError):
        threads.report("a group of changes", error)


def _groups(tasks: Sequence[_Task]) -> list[list[_Task]]:
    """Group tasks in order; a change that contradicts one before it begins a new group."""
    # Two changes that want different things of one key (a port that is published, and one moment
    # later released) must happen one after the other, else the first would be acknowledged and
    # never so. A late change computes what to do from the host as the ones before it leave it: it
    # is alone.
    out: list[list[_Task]] = []
    desired: dict[Key, Resource | None] = {}
    alone = False
    for task in tasks:
        if alone or task.late is not None:
            out.append([])
            desired, alone = {}, task.late is not None
        mine = {k: task.change.desired.get(k) for k in task.change.scope}
        if not out or any(desired.get(k, w) != w for k, w in mine.items()):
            out.append([])
            desired = {}
        out[-1].append(task)
        desired |= mine
    return out


def _merged(changes: Sequence[Change]) -> Change:
    desired: dict[Key, Resource] = {}
    known: dict[Key, Resource] = {}
    for c in changes:
        desired |= c.desired
        known |= c.known
    return Change(desired, frozenset().union(*(c.scope for c in changes)), known)


def _shares(plan: Plan, group: Sequence[_Task]) -> list[Plan]:
    """Return the steps of each task; one that several share is the first one's."""
    # In reverse, so that of several with one key the first is the last to be written.
    whose = {k: i for i, t in reversed(list(enumerate(group))) for k in t.change.scope}
    return [tuple(op for op in plan if whose[op.subject.key] == i) for i in range(len(group))]
