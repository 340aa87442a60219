"""Keys, counters and the replay window."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.overlay.sleeve.framing import TAG
from netkit.overlay.sleeve.sealing import FORMER, WINDOW, Keys, Opening, Seal

KEY, OTHER = bytes(range(32)), bytes(32)


def sealed(counter: int, key: bytes = KEY, head: bytes = b"head") -> bytes:
    out = memoryview(bytearray(64))
    size = Seal(key).into(counter, head, b"frame", out)
    return bytes(out[:size])


def opened(opening: Opening, counter: int, data: bytes, head: bytes = b"head") -> bytes | None:
    out = memoryview(bytearray(64))
    size = opening.into(counter, head, data, out)
    return bytes(out[:size]) if size >= 0 else None


def test_what_was_sealed_is_opened_once() -> None:
    opening = Opening(KEY)
    assert opened(opening, 1, sealed(1)) == b"frame"
    assert opened(opening, 1, sealed(1)) is None


def test_nothing_of_it_may_be_another() -> None:
    opening, data = Opening(KEY), sealed(7)
    assert opened(opening, 8, data) is None
    assert opened(opening, 7, data, b"Head") is None
    assert opened(opening, 7, data[:-1] + bytes([data[-1] ^ 1])) is None
    assert opened(opening, 7, data[: TAG - 1]) is None
    assert opened(opening, 7, sealed(7, OTHER)) is None
    assert opened(opening, 7, data) == b"frame"


def test_a_forgery_never_moves_the_window() -> None:
    opening = Opening(KEY)
    assert opened(opening, 2**63, b"x" * 40) is None
    assert opened(opening, 1, sealed(1)) == b"frame"
    assert opening.missing == 0


def test_the_window_is_as_wide_as_it_says() -> None:
    opening = Opening(KEY)
    high = WINDOW + 1000
    assert opened(opening, high, sealed(high)) == b"frame"
    assert opened(opening, high - WINDOW, sealed(high - WINDOW)) is None
    assert opened(opening, high - WINDOW + 1, sealed(high - WINDOW + 1)) == b"frame"


@given(st.randoms(use_true_random=False))
def test_the_window_takes_each_counter_once_in_any_order(random: Random) -> None:
    """Beside a set that remembers all of them."""
    opening, seen, top = Opening(KEY), set[int](), 0
    base = random.randrange(1, 1 << 40)
    for _ in range(60):
        counter = base + random.choice([random.randrange(200), random.randrange(3 * WINDOW)])
        fresh = counter not in seen and counter > top - WINDOW
        assert (opened(opening, counter, sealed(counter)) is not None) == fresh
        if fresh:
            seen.add(counter)
            top = max(top, counter)


def test_what_is_missing_is_counted() -> None:
    opening = Opening(KEY)
    for counter in (1, 2, 5, 4, 9):
        opened(opening, counter, sealed(counter))
    assert opening.missing == 4


def test_where_nothing_is_sealed_a_sender_may_begin_anew() -> None:
    opening = Opening(b"")
    for counter in (100_000, 100_001, 100_003, 1, 2, 3):
        assert opened(opening, counter, b"frame") == b"frame"
    assert opening.missing == 0
    opened(opening, 5, b"frame")
    assert opening.missing == 1


def test_a_key_that_is_given_again_goes_on_where_it_was() -> None:
    keys = Keys(Seal)
    first = keys.of(KEY)
    assert [next(first.counters), next(first.counters)] == [1, 2]
    assert next(keys.of(KEY).counters) == 3
    assert next(keys.of(OTHER).counters) == 1


def test_a_key_that_comes_back_goes_on_too() -> None:
    """Two sessions with a peer may take turns, until both sides agree on one."""
    keys = Keys(Seal)
    assert next(keys.of(KEY).counters) == 1
    keys.forget(KEY)
    assert next(keys.of(OTHER).counters) == 1
    keys.forget(OTHER)
    assert next(keys.of(KEY).counters) == 2


def test_a_key_of_which_the_counter_is_gone_is_refused() -> None:
    keys = Keys(Seal)
    keys.of(KEY)
    keys.forget(KEY)
    for number in range(FORMER):
        keys.of(number.to_bytes(32, "big"))
        keys.forget(number.to_bytes(32, "big"))
    with pytest.raises(ValueError, match="in use before"):
        keys.of(KEY)


def test_keys_of_the_dead_are_refused_in_use_or_not() -> None:
    keys = Keys(Seal)
    keys.of(KEY)
    keys.of(OTHER)
    keys.forget(OTHER)
    keys.spend()
    for key in (KEY, OTHER):
        with pytest.raises(ValueError, match="in use before"):
            keys.of(key)
    keys.forget(b"x" * 32)  # never given
    keys.of(b"x" * 32)


def test_no_key_is_none() -> None:
    keys = Keys(Seal)
    keys.of(b"")
    keys.forget(b"")
    assert not keys.of(b"").sealed
