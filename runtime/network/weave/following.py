"""A thread that keeps the overlay's process running, and in agreement with this host's rows.

    the process ended  --> it is started again, and sent everything
    it does not answer --> it is killed (`liveness` decides when), and has ended
    rows changed       --> compared with what was sent last: the differences
    it reports         --> subscribers (`on_event`)
    half a minute      --> everything is compared, whatever was noticed

It compares and never remembers what happened, so a kill of either process at any time does no
harm.  There is no thread, and a notification costs nothing, where the overlay is not launched.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from netkit import threads
from netkit.errors import NetkitError, NotFound
from netkit.network.overlay_networks import OverlayNetworks
from netkit.overlay import verbs
from netkit.overlay.client import Channel, Unanswered
from netkit.overlay.service import Service
from runtime.network.weave.desired import Desired, desired
from runtime.network.weave.liveness import Liveness

AGAIN = 0.5  # seconds until a process that could not be started, or asked, is tried again
LOOK = 30.0  # seconds between comparisons without a notification
GATHER = 0.02  # seconds after a notification: what comes together is looked at together
FEW = 16  # changes that are sent one by one
SETTLE = 10.0  # seconds that `settle` waits at most

log = logging.getLogger("netkit.weave")
Problems = dict[str, str]
"""Of what ("the process", "addresses"): what is wrong, for people."""


class Following:
    """`start` and `stop` as often as the overlay is launched and stopped; `notify` at any time.

    `turns` is held while the process is started here or elsewhere, or stopped: one at a time.
    """

    def __init__(self, overlay: Service, host: OverlayNetworks) -> None:
        self._overlay, self._host = overlay, host
        self.turns = threading.RLock()
        self.problems: Problems = {}
        self.unable = ""  # why the process cannot be started; "": it can, or runs
        self.on_event: list[Callable[[dict[str, Any]], object]] = []
        self.on_sync: list[Callable[[Channel, bool], Problems]] = []
        """Called in each comparison with the channel, and whether the process is a new one."""
        self._guard = threading.Condition()
        self._thread: threading.Thread | None = None
        self._bell = -1
        self._ended = True
        self._changes = self._done = 0  # notifications, and those that a comparison followed
        self._channel: Channel | None = None
        self._sent: Desired | None = None  # what this process has; None: nothing is known
        self._liveness = Liveness()

    # -- from any thread -------------------------------------------------------------------------

    def notify(self) -> None:
        """Something of this host changed; neither blocks nor raises."""
        if self._ended:
            return
        with self._guard:
            if not self._ended:
                self._changes += 1
                os.eventfd_write(self._bell, 1)

    def settle(self, seconds: float = SETTLE) -> bool:
        """Wait until the process has what is in the rows now; False: it does not in that time."""
        self.notify()
        with self._guard:
            through = self._changes
            return self._guard.wait_for(lambda: self._ended or self._done >= through, seconds)

    def start(self) -> None:
        with self._guard:
            if not self._ended:
                return
            self._ended = False
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._thread = threads.looping("netkit-weave", self._run, over=lambda: self._ended)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the process goes on.  Not while holding `turns`."""
        with self._guard:
            if self._ended:
                return
            self._ended = True
            os.eventfd_write(self._bell, 1)
            self._guard.notify_all()
        assert self._thread is not None
        self._thread.join(SETTLE)
        if not self._thread.is_alive():  # else it waits for a process that it has just started
            os.close(self._bell)
            self._drop()
        self.problems, self.unable = {}, ""

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended:
            changes, pause = self._changes, AGAIN
            try:
                well = self._turn()
            except NetkitError as error:
                if self._overlay.launched:  # else it was stopped
                    self._note({"the process": str(error)}, {"the process"})
                if self._channel is not None and self._channel.closed:
                    pause = 0.0  # it ran until now, and is started at once
                self._drop()
                if isinstance(error, Unanswered) and self._replace():
                    pause = 0.0
                well = False
            if well:
                self._liveness.answered(time.monotonic())
                with self._guard:
                    self._done = max(self._done, changes)
                    self._guard.notify_all()
            self._wait(LOOK if well else pause)

    def _turn(self) -> bool:
        """Connect, compare, and take what it reports; False: it is not there yet."""
        fresh = self._channel is None
        if fresh and not self._connect():
            return False
        assert self._channel is not None
        self._note({}, {"the process"})
        self._report(self._channel.waiting())
        problems = self._compare(self._channel)
        for call in self.on_sync:
            problems |= call(self._channel, fresh)
        self._note(problems, self.problems.keys() - {"the process"})
        self._report(self._channel.waiting())
        return True

    def _connect(self) -> bool:
        with self.turns:
            if self._ended or not self._overlay.launched:
                return False
            try:
                started = self._overlay.ensure()
            except NetkitError as error:
                self.unable = str(error)
                raise
        if started:
            log.info("the weave overlay was started")
        with suppress(NotFound):  # it ends at once, and is tried again after a pause
            channel = self._overlay.channel()
            channel.call(verbs.Subscribe())
            self._channel, self._sent, self.unable = channel, None, ""
            return True
        return False

    def _replace(self) -> bool:
        """Kill the process if it hangs; whether it was killed, and can be started again."""
        if not self._liveness.unanswered():
            return False
        with self.turns:
            if self._ended or not self._overlay.launched:
                return False
            self._liveness.killed(time.monotonic())
            try:
                pid = self._overlay.kill()
            except NetkitError as error:
                self._note({"the process": str(error)}, {"the process"})
                return False
        if pid is not None:
            log.error("weave: the overlay's process %d hung: it was killed and is replaced", pid)
        return pid is not None

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = self._sent = None

    def _compare(self, channel: Channel) -> Problems:
        target = desired(self._host)
        sent, self._sent = self._sent, None  # if it fails in between, all is sent the next time
        problems: Problems = dict(target.problems)
        refused = False
        for call in differences(sent, target):
            try:
                channel.call(call)
            except NetkitError as error:
                if channel.closed:
                    raise
                problems[_about(call, target)] = str(error)
                refused = True
        self._sent = None if refused else target
        return problems

    def _report(self, events: Sequence[dict[str, Any]]) -> None:
        for event in events:
            for call in self.on_event:
                threads.attempt("an event of the weave overlay", partial(call, event))

    def _note(self, problems: Problems, former: set[str] | frozenset[str]) -> None:
        """Log what is new, once, and what is over."""
        for what, why in problems.items():
            if self.problems.get(what) != why:
                log.warning("weave: %s: %s", what, why)
        over = {what for what in former if what not in problems and what in self.problems}
        for what in over:
            log.info("weave: %s: all is well again", what)
        self.problems = {k: v for k, v in self.problems.items() if k not in over} | problems

    def _wait(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if self._channel is not None:
            poll.register(self._channel.fileno(), select.POLLIN)
        if poll.poll(seconds * 1000) and not self._ended:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
                time.sleep(GATHER)


def differences(sent: Desired | None, target: Desired) -> list[verbs.Known]:
    """Calls that bring the process from the state that was sent to the desired one."""
    everything: list[verbs.Known] = [
        verbs.Networks(networks=tuple(target.networks.values())),
        verbs.Endpoints(endpoints=tuple(target.endpoints.values())),
    ]
    if sent is None:
        return everything
    calls: list[verbs.Known] = [
        *(verbs.DropEndpoint(id=id) for id in sent.endpoints if id not in target.endpoints),
        *(verbs.DropNetwork(id=id) for id in sent.networks if id not in target.networks),
        *(verbs.PutNetwork(network=n) for n in target.networks.values()
          if sent.networks.get(n.id) != n),
        *(verbs.PutEndpoint(endpoint=e) for e in target.endpoints.values()
          if sent.endpoints.get(e.id) != e),
    ]  # fmt: skip
    return calls if len(calls) <= FEW else everything


def _about(call: verbs.Known, target: Desired) -> str:
    match call:
        case verbs.PutEndpoint():
            return f"container {next(iter(call.endpoint.names), call.endpoint.container)}"
        case verbs.PutNetwork():
            return f"network {call.network.name}"
        case verbs.Networks() | verbs.DropNetwork():
            return "networks"
    return "containers"
