"""Run health checks: a probe in the container at intervals, and its status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from netkit import threads
from netkit.errors import NetkitError
from netkit.timestamps import rfc3339
from runtime.apitypes import Health
from runtime.container.model import Container, HealthLog, HealthState

SECOND = 1_000_000_000
INTERVAL, TIMEOUT, START_INTERVAL = 30 * SECOND, 30 * SECOND, 5 * SECOND  # Docker's defaults
RETRIES = 3
KEPT, OUTPUT = 5, 4096  # results kept per container; bytes of output kept per result

Probe = Callable[[Container, list[str], float], Coroutine[Any, Any, tuple[int, bytes]]]
Changed = Callable[[Container, str], None]


def command(health: Health, shell: list[str] | None) -> list[str]:
    """The probe's argument list."""
    kind, *rest = health.test or ["NONE"]
    if kind == "CMD-SHELL":
        return [*(shell or ["/bin/sh", "-c"]), *rest]
    return rest


def record_result(
    state: HealthState, result: HealthLog, retries: int, in_start_period: bool
) -> str:
    """Add one result to the state; the new status if it changed, else ""."""
    before = state.status
    state.log = [*state.log, result][-KEPT:]
    if result.exit_code == 0:
        state.failing_streak = 0
        state.status = "healthy"
    elif not in_start_period or before != "starting":  # else it may still be starting up
        state.failing_streak += 1
        if state.failing_streak >= retries:
            state.status = "unhealthy"
    return state.status if state.status != before else ""


class HealthChecks:
    """Runs one task per container with a health check, on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, probe: Probe, changed: Changed) -> None:
        self._loop = loop
        self._probe = probe
        self._changed = changed
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, c: Container) -> None:
        """Begin to probe a container that has started or was adopted.  From any thread."""
        health = c.config.healthcheck
        if health and health.test and health.test[0] != "NONE" and c.state.health:
            threads.post(self._loop, f"health of {c.name}", self._begin, c, health)

    def end(self, c: Container) -> None:
        """Stop probing a container that has exited.  From any thread."""
        threads.post(self._loop, f"health of {c.name}", self._end, c.id)

    def _begin(self, c: Container, health: Health) -> None:
        self._end(c.id)
        self._tasks[c.id] = threads.task(f"health of {c.name}", self._run(c, health))

    def _end(self, id: str) -> None:
        if task := self._tasks.pop(id, None):
            task.cancel()

    async def _run(self, c: Container, health: Health) -> None:
        began = self._loop.time()
        period = health.start_period / SECOND
        run = c.state.pid
        while c.state.alive and c.state.pid == run and c.state.health:
            starting = c.state.health.status == "starting" and self._loop.time() - began < period
            pause = (health.start_interval or START_INTERVAL) if starting and period else (
                health.interval or INTERVAL
            )  # fmt: skip
            await asyncio.sleep(pause / SECOND)
            if c.state.status != "running" or c.state.pid != run or not c.state.health:
                continue
            result = await self._once(c, health)
            account = partial(self._account, c, health, result, self._loop.time() - began < period)
            threads.attempt(f"health of {c.name}", account)

    def _account(self, c: Container, health: Health, result: HealthLog, in_period: bool) -> None:
        if c.state.health is not None:
            status = record_result(c.state.health, result, health.retries or RETRIES, in_period)
            self._changed(c, status)

    async def _once(self, c: Container, health: Health) -> HealthLog:
        limit = (health.timeout or TIMEOUT) / SECOND
        start = rfc3339()
        try:
            code, output = await self._probe(c, command(health, c.config.shell), limit)
        except TimeoutError as error:
            text = f"Health check exceeded timeout ({limit:g}s)"
            said = b"".join(error.args[:1])
            code, output = -1, text.encode() + (b": " + said if said else b"")
        except Exception as error:  # noqa: BLE001  a probe that cannot run is a failed probe
            if not isinstance(error, NetkitError):
                threads.report(f"the health check of container {c.name}", error)
            code, output = -1, str(error).encode()
        shown = output[:OUTPUT].decode(errors="replace")
        return HealthLog(start=start, end=rfc3339(), exit_code=code, output=shown)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
