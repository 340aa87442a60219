"""Containers of a build's steps: what removes one, and what waits for that."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from netkit.errors import Conflict
from runtime.build.containers import BuildContainers, ContainerParts
from runtime.cancellation import Cancel


def test_a_removal_that_another_thread_has_begun_is_waited_for() -> None:
    """The client leaves, or another stage fails, while the step ends."""
    lock, held, there = threading.RLock(), threading.Event(), {"c": object()}
    release = threading.Event()

    def removing() -> None:
        with lock:
            held.set()
            release.wait(10)
            there.clear()

    service: Any = Mock()
    service.remove.side_effect = Conflict("removal of container c is already in progress")
    parts: Any = SimpleNamespace(
        service=service, store=SimpleNamespace(get=there.get),
        supervisor=SimpleNamespace(lock=lambda id: lock),
    )  # fmt: skip
    parts.wait_removal = lambda id: ContainerParts.wait_removal(parts, id)
    other = threading.Thread(target=removing)
    other.start()
    held.wait()
    threading.Timer(0.02, release.set).start()
    BuildContainers(parts, Mock(), Cancel())._remove("c")
    assert not there
    other.join()
