"""What is done on other threads is reported where it fails, and goes on."""

from __future__ import annotations

import ast
import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


# -- no other way -----------------------------------------------------------------

WAYS = frozenset(
    {
        *("Thread", "Timer", "start_new_thread", "submit", "run_in_executor", "create_task"),
        *("ensure_future", "add_done_callback", "call_soon_threadsafe"),
        *("run_coroutine_threadsafe", "call_later", "call_at"),
    }
)
WAITED = "its outcome is awaited where it is begun"
LOOP = "asyncio logs what a callback on its loop raises"
CLIENT = "of the command line, which ends with it"
ELSEWHERE: dict[str, tuple[int, str]] = {  # at most so many, and why
    "netkit/cli/conversation.py: Thread": (1, CLIENT),
    "netkit/cli/forward.py: Thread": (1, CLIENT),
    "netkit/cli/stats.py: Thread": (1, CLIENT),
    "netkit/lab/building.py: submit": (1, WAITED),
    "netkit/lab/probe.py: Thread": (1, "ends with its socket; who probes sees no answer"),
    "runtime/api/containers.py: ensure_future": (1, WAITED),
    "runtime/api/front.py: call_later": (3, LOOP),
    "runtime/api/hijack.py: add_done_callback": (1, LOOP),
    "runtime/api/hijack.py: ensure_future": (1, WAITED),
    "runtime/api/lanes.py: add_done_callback": (1, "reports"),
    "runtime/api/lanes.py: run_in_executor": (1, WAITED),
    "runtime/api/lanes.py: submit": (1, "reports"),
    "runtime/api/reply.py: add_done_callback": (1, LOOP),
    "runtime/api/reply.py: ensure_future": (1, WAITED),
    "runtime/api/talk.py: ensure_future": (3, WAITED),
    "runtime/api/tls.py: call_later": (1, LOOP),
    "runtime/api/transfer.py: run_coroutine_threadsafe": (1, WAITED),
    "runtime/containers/execs.py: add_done_callback": (1, LOOP),
    "runtime/containers/execs.py: call_soon_threadsafe": (3, LOOP),
    "runtime/containers/execs.py: create_task": (3, WAITED),
    "runtime/containers/execs.py: run_coroutine_threadsafe": (1, WAITED),
    "runtime/containers/health.py: call_soon_threadsafe": (2, LOOP),
    "runtime/containers/health.py: create_task": (1, LOOP),
    "runtime/containers/talking.py: add_done_callback": (1, LOOP),
    "runtime/containers/talking.py: call_soon_threadsafe": (2, LOOP),
    "runtime/containers/talking.py: create_task": (3, WAITED),
    "runtime/containers/waiting.py: call_soon_threadsafe": (1, LOOP),
    "runtime/containers/watch.py: call_soon_threadsafe": (2, LOOP),
    "runtime/containers/watch.py: submit": (2, "what it calls reports"),
    "runtime/events.py: call_soon_threadsafe": (1, LOOP),
    "runtime/oci/session.py: add_done_callback": (1, LOOP),
    "runtime/oci/session.py: call_later": (1, LOOP),
    "runtime/timers.py: call_soon_threadsafe": (1, LOOP),
    "runtime/timers.py: submit": (1, "what it calls reports"),
    "runtime/undo.py: Thread": (1, WAITED),
}


def _begun(source: str) -> Iterator[str]:
    """Ways in which a module begins work elsewhere, but for those of netkit.threads."""
    if not any(f"{way}(" in source for way in WAYS):
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="threads"))):
                continue
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in WAYS:
                yield name


@pytest.mark.slow
def test_all_work_elsewhere_is_begun_where_its_errors_are_reported() -> None:
    top = Path(__file__).parents[2]
    found = Counter(
        f"{path.relative_to(top)}: {name}"
        for package in ("netkit", "runtime", "plugins")
        for path in (top / package).rglob("*.py")
        if path != Path(threads.__file__)
        for name in _begun(path.read_text())
    )
    many = {k: n for k, n in found.items() if n > ELSEWHERE.get(k, (0, ""))[0]}
    assert not many, "begin it with netkit.threads, or list it with the reason"


def test_the_audit_sees_every_way() -> None:
    source = "import threading\nthreading.Thread(target=f)\npool.submit(f)\nThread(target=f)\n"
    assert list(_begun(source + "threads.submit(pool, 'x', f)\n")) == ["Thread", "submit", "Thread"]
