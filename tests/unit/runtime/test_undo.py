from __future__ import annotations

import threading

import pytest

from runtime.undo import run_parallel


def test_two_things_are_under_way_at_the_same_time() -> None:
    met = threading.Barrier(2, timeout=10)
    run_parallel(met.wait, met.wait)


def test_both_are_finished_whatever_becomes_of_them() -> None:
    done = []

    def fails() -> None:
        done.append("failed")
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        run_parallel(fails, lambda: done.append("done"))
    with pytest.raises(OSError, match="no"):
        run_parallel(lambda: done.append("done"), fails)
    assert sorted(done) == ["done", "done", "failed", "failed"]


def test_the_second_error_is_a_note_on_the_first() -> None:
    def one() -> None:
        raise OSError("one")

    def other() -> None:
        raise OSError("other")

    with pytest.raises(OSError, match="one") as caught:
        run_parallel(one, other)
    assert caught.value.__notes__ == ["and at the same time: other"]
