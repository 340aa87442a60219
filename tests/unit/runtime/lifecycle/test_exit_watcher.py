"""Many containers that are watched at once wake the event loop a few times."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from netkit import threads
from runtime.lifecycle.exit_watcher import ExitWatcher


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as made:
        yield made
        made.kill()


def test_one_call_of_the_loop_adds_all(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = Mock()
    monkeypatch.setattr(threads, "post", posted)
    watcher = ExitWatcher(Mock(), Mock())
    for n in range(20):
        watcher.watch(str(n), process.pid, lambda: None)
    assert posted.call_count == 1
    watcher._add()
    assert watcher._loop.add_reader.call_count == 20  # type: ignore[attr-defined]
    watcher.watch("later", process.pid, lambda: None)
    assert posted.call_count == 2
    for fd in watcher._fds.values():
        watcher._loop.remove_reader(fd)
    for id, fd in [*watcher._fds.items()]:
        watcher._close(id, fd)


def test_of_two_watches_of_a_container_the_second_is_called(
    process: subprocess.Popen[bytes],
) -> None:
    async def watched() -> list[str]:
        ended: list[str] = []
        with ThreadPoolExecutor(1) as workers:
            watcher = ExitWatcher(asyncio.get_running_loop(), workers)
            done = asyncio.Event()
            loop = asyncio.get_running_loop()

            def gone(which: str) -> None:
                ended.append(which)
                loop.call_soon_threadsafe(done.set)

            watcher.watch("c", process.pid, lambda: gone("first"))
            watcher.watch("c", process.pid, lambda: gone("second"))
            process.kill()
            await asyncio.wait_for(done.wait(), 20)
        return ended

    assert asyncio.run(watched()) == ["second"]
