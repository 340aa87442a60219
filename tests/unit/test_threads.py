"""What is done on other threads is reported where it fails, and goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from netkit import threads
from netkit.errors import KernelError


def _logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    return [(r.getMessage(), r.exc_info is not None) for r in caplog.records]


def test_what_nobody_expected_is_logged_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    threads.report("sweeping", ZeroDivisionError("defect"))
    error = KernelError("no link eth7")
    error.add_note("could not undo + link//eth8")
    threads.report("repair", error)
    assert _logged(caplog) == [
        ("sweeping failed: unexpected ZeroDivisionError: defect", True),
        ("repair failed: no link eth7; could not undo + link//eth8", False),
    ]


def test_a_loop_that_raises_is_called_again(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def loop() -> None:
        calls.append(len(calls))
        if len(calls) < 3:
            raise RuntimeError(f"round {len(calls)}")

    thread = threads.looping("nk-loop", loop, over=lambda: False)
    thread.start()
    thread.join(20)
    assert calls == [0, 1, 2]
    assert [m for m, _ in _logged(caplog)] == [
        "nk-loop failed: unexpected RuntimeError: round 1",
        "nk-loop failed: unexpected RuntimeError: round 2",
    ]


def test_a_loop_that_raises_ends_when_it_is_over() -> None:
    over = threading.Event()

    def loop() -> None:
        over.set()
        raise RuntimeError("defect")

    thread = threads.looping("nk-loop", loop, over=over.is_set)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_a_thread_reports_even_an_exit(caplog: pytest.LogCaptureFixture) -> None:
    def leave() -> None:
        raise SystemExit(3)

    thread = threads.once("nk-once", leave)
    thread.start()
    thread.join(20)
    assert _logged(caplog) == [("nk-once failed: unexpected SystemExit: 3", True)]


def test_a_job_is_reported_and_one_that_comes_too_late_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert threads.submit(pool, "ending web", int, "x")
    assert not threads.submit(pool, "ending db", int, "1")
    assert [m for m, _ in _logged(caplog)] == [
        "ending web failed: unexpected ValueError: invalid literal for int() with base 10: 'x'",
        "ending db: not done, netkit is shutting down: cannot schedule new futures after shutdown",
    ]


def test_calls_and_tasks_on_a_loop_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def defect() -> None:
        raise OSError(28, "No space left on device")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert threads.post(loop, "a call", int, "x")
        made = threads.task("a task", defect())
        quiet = threads.task("cancelled", asyncio.sleep(60))
        await asyncio.sleep(0)
        quiet.cancel()
        await asyncio.wait({made, quiet})
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    logging.getLogger("asyncio").setLevel(logging.INFO)
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()
    assert not threads.post(loop, "a late call", time.sleep, 0)
    assert [m for m, traced in _logged(caplog) if traced] == [
        "a call failed: unexpected ValueError: invalid literal for int() with base 10: 'x'",
        "a task failed: unexpected OSError: [Errno 28] No space left on device",
    ]
