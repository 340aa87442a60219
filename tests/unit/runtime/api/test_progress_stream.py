"""Progress from the threads of an operation to its client."""

from __future__ import annotations

import threading
from unittest.mock import Mock

from runtime.api.server.progress_stream import _Messages
from runtime.cancellation import Cancel, Cancelled


def test_a_client_that_takes_nothing_stops_the_operation_by_the_size_of_texts() -> None:
    cancel = Cancel()
    messages = _Messages(Mock(), cancel)
    sent: list[int] = []

    def work() -> None:
        try:
            for n in range(100):
                messages.send({"stream": "x" * 100_000})
                sent.append(n)
        except Cancelled:
            sent.append(-1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(0.05)
    assert len(sent) == 11  # the text that exceeds the bound is the last
    assert len(messages.rest()) == 11
    cancel.set()
    thread.join(10)
    assert sent[-1] == -1
