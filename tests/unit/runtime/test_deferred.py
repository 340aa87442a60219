"""Parts of the engine that are made when they are first used."""

from __future__ import annotations

import threading
import time

import pytest

from runtime.deferred import deferred


class Part:
    made = 0

    def __init__(self) -> None:
        Part.made += 1
        self.name = f"part {Part.made}"


@pytest.fixture(autouse=True)
def none_made() -> None:
    Part.made = 0


def test_a_part_is_made_once_and_when_it_is_first_used() -> None:
    part = deferred(Part)
    assert Part.made == 0
    assert (part.name, part.name, Part.made) == ("part 1", "part 1", 1)


def test_several_threads_that_use_it_first_get_the_same_part() -> None:
    def make() -> Part:
        time.sleep(0.01)
        return Part()

    part = deferred(make)
    names: list[str] = []
    users = [threading.Thread(target=lambda: names.append(part.name)) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert names == ["part 1"] * 4


def test_a_part_that_could_not_be_made_is_made_by_the_next_use() -> None:
    tries = iter([OSError("no memory"), None])

    def make() -> Part:
        if (error := next(tries)) is not None:
            raise error
        return Part()

    part = deferred(make)
    with pytest.raises(OSError, match="no memory"):
        _ = part.name
    assert part.name == "part 1"
