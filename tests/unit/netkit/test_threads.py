"""Failures of work on other threads are reported, and the threads go on."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netkit import threads
from netkit.errors import KernelError
from tests.places import ROOT


def _logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    return [(r.getMessage(), r.exc_info is not None) for r in caplog.records]


def test_an_unexpected_error_is_logged_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
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
    "netkit/lab/impairing.py: submit": (1, WAITED),
    "netkit/lab/rehearsal.py: submit": (1, WAITED),
    "netkit/ui/shell.py: create_task": (2, WAITED),
    "plugins/weave/council.py: submit": (1, "no executor: an operation is handed to the council"),
    "netkit/lab/probe.py: Thread": (1, "ends with its socket; who probes sees no answer"),
    "runtime/api/routes/containers.py: ensure_future": (1, WAITED),
    "runtime/api/server/admission.py: call_later": (2, LOOP),
    "runtime/api/server/backlog.py: call_later": (2, LOOP),
    "runtime/api/server/upgrade_guard.py: call_later": (4, LOOP),
    "runtime/api/server/hijack.py: add_done_callback": (1, LOOP),
    "runtime/api/server/hijack.py: ensure_future": (1, WAITED),
    "runtime/api/server/executors.py: add_done_callback": (1, "reports"),
    "runtime/api/server/executors.py: run_in_executor": (2, WAITED),
    "runtime/api/server/executors.py: submit": (1, "reports"),
    "runtime/api/server/responses.py: add_done_callback": (1, LOOP),
    "runtime/api/server/responses.py: ensure_future": (1, WAITED),
    "runtime/api/routes/system.py: ensure_future": (1, WAITED),
    "runtime/api/routes/system.py: add_done_callback": (1, WAITED),
    "runtime/api/server/attach_session.py: ensure_future": (3, WAITED),
    "runtime/api/server/tls_half_close.py: call_later": (1, LOOP),
    "runtime/api/server/streaming.py: run_coroutine_threadsafe": (1, WAITED),
    "runtime/build/container_output.py: add_done_callback": (1, LOOP),
    "runtime/build/container_output.py: run_coroutine_threadsafe": (1, WAITED),
    "runtime/registry/gzipping.py: submit": (1, WAITED),
    "runtime/registry/pull.py: submit": (2, WAITED),
    "runtime/registry/push.py: submit": (1, WAITED),
    "runtime/lifecycle/exec.py: add_done_callback": (1, LOOP),
    "runtime/lifecycle/exec.py: call_soon_threadsafe": (3, LOOP),
    "runtime/lifecycle/exec_run.py: create_task": (2, WAITED),
    "runtime/lifecycle/exec_run.py: ensure_future": (1, WAITED),
    "runtime/lifecycle/exec.py: run_coroutine_threadsafe": (1, WAITED),
    "runtime/lifecycle/health.py: call_soon_threadsafe": (2, LOOP),
    "runtime/lifecycle/health.py: create_task": (1, LOOP),
    "runtime/lifecycle/attach.py: add_done_callback": (1, LOOP),
    "runtime/lifecycle/attach.py: call_soon_threadsafe": (2, LOOP),
    "runtime/lifecycle/attach.py: create_task": (3, WAITED),
    "runtime/lifecycle/waiters.py: call_soon_threadsafe": (1, LOOP),
    "runtime/lifecycle/exit_watcher.py: call_soon_threadsafe": (2, LOOP),
    "runtime/lifecycle/exit_watcher.py: submit": (2, "what it calls reports"),
    "runtime/events.py: call_soon_threadsafe": (1, LOOP),
    "runtime/shared_reads.py: add_done_callback": (1, "reports"),
    "runtime/shared_reads.py: run_in_executor": (2, WAITED),
    "runtime/oci/exec_session.py: add_done_callback": (1, LOOP),
    "runtime/oci/exec_session.py: call_later": (1, LOOP),
    "runtime/timers.py: call_soon_threadsafe": (1, LOOP),
    "runtime/timers.py: submit": (1, "what it calls reports"),
    "runtime/undo.py: Thread": (1, WAITED),
}


def _begun(source: str) -> Iterator[str]:
    """Find where a module begins threads, jobs or tasks without netkit.threads."""
    if not any(f"{way}(" in source for way in WAYS):
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="threads"))):
                continue
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in WAYS:
                yield name


def _found(names: Callable[[str], Iterator[str]], besides: Path | None = None) -> Mapping[str, int]:
    """Count "FILE: NAME" for the names that `names` finds in each module's source."""
    top = ROOT
    return Counter(
        f"{path.relative_to(top)}: {name}"
        for package in ("netkit", "runtime", "plugins")
        for path in (top / package).rglob("*.py")
        if path != besides
        for name in names(path.read_text())
    )


@pytest.mark.slow
def test_all_work_elsewhere_is_begun_where_its_errors_are_reported() -> None:
    found = _found(_begun, besides=Path(threads.__file__))
    many = {k: n for k, n in found.items() if n > ELSEWHERE.get(k, (0, ""))[0]}
    assert not many, "begin it with netkit.threads, or list it with the reason"


def test_the_audit_sees_every_way() -> None:
    source = "import threading\nthreading.Thread(target=f)\npool.submit(f)\nThread(target=f)\n"
    assert list(_begun(source + "threads.submit(pool, 'x', f)\n")) == ["Thread", "submit", "Thread"]


# -- no error without a word ---------------------------------------------------------

BROAD = frozenset({"Exception", "BaseException"})
REPORTS = frozenset({"report", "exception", "set_exception", "add_note"})
QUIET: dict[str, tuple[int, str]] = {  # at most so many, and why
    "runtime/api/server/progress_stream.py: _run": (1, "the stream that waits for it raises it"),
    "runtime/api/server/streaming.py: _receive": (1, "the worker that reads raises it"),
    "runtime/build/builder.py: run": (1, "raised by the thread of the build"),
    "netkit/network/registry.py: _entry": (1, "_degraded logs it once, with its traceback"),
    "netkit/kernel/relay/__main__.py: _work": (1, "in the relay's log; its supervisor goes on"),
    "netkit/threads.py: attempt": (1, "calls report, which is beside it"),
    "netkit/reconcile/queue.py: _together": (2, "_each_alone reports it"),
    "netkit/kernel/iptables/legacy/__main__.py: main": (1, "answered to the daemon, which logs it"),
    "netkit/cli/drivers.py: options": (1, "of a third party's driver, in the help"),
    "runtime/rootfs/mount.py: there": (1, "raised in the caller's thread"),
    "runtime/undo.py: aside": (1, "raised in the caller's thread"),
}


def _silent(source: str) -> Iterator[str]:
    """Find functions of a module that swallow any exception: no raise, no report."""
    if "except" not in source and "suppress(" not in source:
        return
    for function, node in _within(ast.parse(source), "module"):
        match node:
            case ast.ExceptHandler(type=kinds) if kinds is None or BROAD & _names(kinds):
                if not any(_reports(n) for part in node.body for n in ast.walk(part)):
                    yield function
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress")):
                if any(BROAD & _names(arg) for arg in node.args):
                    yield function


def _within(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        inner = child.name if named else function  # type: ignore[attr-defined]
        yield inner, child
        yield from _within(child, inner)


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _reports(node: ast.AST) -> bool:
    match node:
        case ast.Raise():
            return True
        case ast.Call(func=ast.Attribute(attr=name), keywords=more):
            return name in REPORTS or any(k.arg == "exc_info" for k in more)
    return False


@pytest.mark.slow
def test_no_exception_of_any_kind_is_dropped_without_a_report() -> None:
    found = _found(_silent)
    many = {k: n for k, n in found.items() if n > QUIET.get(k, (0, ""))[0]}
    assert not many, "report or raise it, or list it with the reason"


def test_the_audit_sees_every_way_of_dropping_an_exception() -> None:
    source = """
def a():
    try: f()
    except: pass
def b():
    try: f()
    except (OSError, Exception) as e: x = e
def c():
    with contextlib.suppress(ValueError, Exception): f()
def d():
    try: f()
    except Exception as e: threads.report("d", e)
def e():
    try: f()
    except BaseException: raise
def g():
    with suppress(OSError): f()
"""
    assert list(_silent(source)) == ["a", "b", "c"]


def _named(source: str) -> Iterator[str]:
    """Find names, or prefixes of names, of threads that a module begins."""
    if not any(way in source for way in (".once(", ".looping(", "ThreadPoolExecutor(")):
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="once" | "looping"), args=[name, *_]):
                pass
            case ast.Call(func=ast.Name(id="ThreadPoolExecutor")):
                given = [k.value for k in node.keywords if k.arg == "thread_name_prefix"]
                name = (*given, *node.args[1:2], ast.Constant("unnamed"))[0]
            case _:
                continue
        if isinstance(name, ast.Constant):
            yield str(name.value)


@pytest.mark.slow
def test_the_page_of_threads_has_all_of_them() -> None:
    page = (ROOT / "docs/design.md").read_text()
    section = page[page.index("## Threads of netkitd") :].partition("\n## ")[0]
    listed = {name for line in section.splitlines() if line.startswith("|")
              for name in re.findall(r"`([^`]+)`", line.split("|")[1])}  # fmt: skip
    rooms = {"cli", "lab", "client", "testing"}  # of netkit's commands, not of netkitd
    begun = {
        where.partition(": ")[2]
        for where in _found(_named)
        if not where.startswith(tuple(f"netkit/{room}/" for room in rooms))
    }
    assert begun - listed == set(), "docs/design.md does not have these threads"
    pooled = {"api-look", "netkit-work", "netkit-kernel", "netkit-guard", "dns-watch"}
    assert pooled <= begun
