"""Start work on other threads, in executors and on event loops, and report what it raises.

Every thread, and every job and task whose result is not awaited, is started by one of these, so
that an exception is logged; tests/unit/netkit/test_threads.py finds those that are not.

    once     one piece of work on a thread of its own
    looping  a loop on a thread of its own, called again after an exception
    submit   one piece of work in an executor
    post     a call on an event loop, from any thread
    task     a coroutine on the running event loop
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from netkit.errors import NetkitError

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Executor

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds until a loop that raised is called again
LOOK = 0.05  # seconds between looks whether it is over, in such a pause

log = logging.getLogger("netkit.threads")
_tasks: set[asyncio.Task[Any]] = set()  # an event loop itself has weak references only


def report(what: str, error: BaseException) -> None:
    """Log why `what` failed: with a traceback, unless a NetkitError has a message for users."""
    if isinstance(error, NetkitError):
        log.error("%s failed: %s%s", what, error, "".join(f"; {n}" for n in notes(error)))
    else:
        name = type(error).__name__
        log.error("%s failed: unexpected %s: %s", what, name, error, exc_info=error)


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def attempt(what: str, act: Callable[[], object]) -> bool:
    """Call `act`, report what it raises; did it return?"""
    try:
        act()
    except BaseException as error:  # noqa: BLE001  it is reported, and the thread goes on
        report(what, error)
        return False
    return True


def once(name: str, act: Callable[[], object]) -> threading.Thread:
    """A thread, not started yet, that calls `act` and reports what it raises."""
    return threading.Thread(target=partial(attempt, name, act), name=name, daemon=True)


def looping(name: str, act: Callable[[], object], *, over: Callable[[], bool]) -> threading.Thread:
    """A thread, not started yet, that calls `act` until it returns, or raises when it is `over`.

    What it raises is reported, and after a pause, which grows while that goes on, it is called
    again: `act` must find its work in what it keeps elsewhere.
    """
    return threading.Thread(target=partial(_loop, name, act, over), name=name, daemon=True)


def _loop(name: str, act: Callable[[], object], over: Callable[[], bool]) -> None:
    pause = FIRST_PAUSE
    begin = time.monotonic()
    while not attempt(name, act) and not over():
        if time.monotonic() - begin > LONGEST_PAUSE:  # it went well for a while
            pause = FIRST_PAUSE
        end = time.monotonic() + pause
        while time.monotonic() < end and not over():
            time.sleep(LOOK)
        pause, begin = min(pause * 2, LONGEST_PAUSE), time.monotonic()


def submit(pool: Executor, what: str, act: Callable[..., object], *args: object) -> bool:
    """Have `act` called by an executor; what it raises is reported.

    False, and logged, if the executor takes no more work: netkit is shutting down.
    """
    try:
        pool.submit(attempt, what, partial(act, *args))
    except RuntimeError as error:
        log.warning("%s: not done, netkit is shutting down: %s", what, error)
        return False
    return True


def post(
    loop: asyncio.AbstractEventLoop, what: str, act: Callable[..., object], *args: object
) -> bool:
    """Have `act` called on an event loop; from any thread.  False if the loop is closed."""
    try:
        loop.call_soon_threadsafe(attempt, what, partial(act, *args))
    except RuntimeError:
        if not loop.is_closed():
            raise
        return False
    return True


def task(what: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
    """Run a coroutine on the running event loop, kept alive until it ends; report what it raises.

    The exception is the task's as well, for one that looks at it.
    """
    import asyncio  # 29 modules, which those with threads alone do without

    made = asyncio.get_running_loop().create_task(work, name=what)
    _tasks.add(made)
    made.add_done_callback(_ended)
    return made


def _ended(made: asyncio.Task[Any]) -> None:
    _tasks.discard(made)
    if not made.cancelled() and (error := made.exception()) is not None:
        report(made.get_name(), error)
