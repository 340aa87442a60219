"""Impairments of links: words, units, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from netkit.errors import InvalidSpec
from netkit.model.impairment import (
    FIELDS,
    MAX_DELAY,
    MAX_RATE,
    MIN_RATE,
    Impairment,
    TwoWay,
    both_ways,
    given,
    parsed,
    spelled,
)


def test_units_are_those_of_tc() -> None:
    words = "delay 20ms jitter 500us loss 0.1% rate 1.5mbit duplicate 2% reorder 25% corrupt 3%"
    assert parsed(words.split()) == Impairment(
        delay=0.02, jitter=0.0005, loss=0.001, rate=1_500_000,
        duplicate=0.02, reorder=0.25, corrupt=0.03,
    )  # fmt: skip


def test_what_is_written_is_read_again() -> None:
    for words in (
        "delay 20ms jitter 500us loss 0.1% rate 1.5mbit", "down", "none", "delay 2s",
        "delay 0.001us loss 0.0000001%", "rate 99.999999999gbit",
    ):  # fmt: skip
        assert str(parsed(words.split())) == words


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("delay -1ms", "delay '-1ms' is negative: write 20ms"),
        ("loss 101%", "loss 101% is more than 100%"),
        ("jitter 5ms", "jitter without delay"),
        ("delay 1ms jitter 5ms", "jitter 5ms is more than the delay 1ms"),
        ("delay 20", "delay '20' has no unit: write 20ms"),
        ("loss 1", "loss '1' has no unit: write 1%"),
        ("rate 10mbps", r"rate: unknown unit 'mbps' \(known: bit, kbit, mbit, gbit\)"),
        ("delay 1h", r"delay: unknown unit 'h' \(known: us, ms, s\)"),
        ("delay 61s", "delay must be from 0 to 60s"),
        ("rate 1bit", "rate must be from 1kbit to 100gbit"),
        ("rate 0bit", "rate must be from 1kbit to 100gbit"),
        ("reorder 5%", "reorder without delay"),
        ("down loss 1%", "down lets nothing pass"),
        ("dealy 20ms", "unknown impairment 'dealy', did you mean 'delay'"),
        ("delay", "delay lacks its value: write delay 20ms"),
        ("delay 1ms delay 2ms", "delay is given twice"),
        ("delay 1e3ms", "delay '1e3ms' is no quantity"),
        ("loss nan%", "loss 'nan%' is no quantity"),
        ("", "no impairment is given"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(words: str, why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        parsed(words.split())


def test_a_document_has_both_ways_or_each() -> None:
    slow, lossy = Impairment(delay=0.02), Impairment(loss=0.01)
    assert both_ways({"delay": "20ms"}) == TwoWay(out=slow, into=slow)
    each = {"out": {"delay": "20ms"}, "in": {"loss": "1%"}, "seed": 7}
    assert both_ways(each) == TwoWay(out=slow, into=lossy, seed=7)
    assert both_ways(spelled(both_ways(each))) == both_ways(each)
    assert str(both_ways(each)) == "out: delay 20ms; in: loss 1% (seed 7)"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"out": {}, "loss": "1%"}, "loss beside out: for which way"),
        ({"delay": 20}, "delay: 20 has no unit: write 20ms"),
        ({"down": "yes"}, "down is true or false"),
        ({"seed": -1}, "seed is a number from 0"),
        ({"seed": True}, "seed is a number from 0"),
        ({"in": "20ms"}, "in is a mapping"),
    ],
)
def test_a_document_that_makes_no_sense_is_refused(values: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidSpec, match=why):
        both_ways(values)


WORDS = st.sampled_from([*FIELDS, "none", "0.123456789%", "1.2345678ms", "9mbit"])
VALUES = st.one_of(st.text(), st.integers(), st.booleans(), st.none())


def _refused(read: Callable[[], object]) -> bool:
    """Whether it is, and that in one line of some length."""
    try:
        read()
    except InvalidSpec as error:
        message = str(error)
    else:
        return False
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    return True


@generated(st.lists(st.one_of(WORDS, st.text())))
def test_any_words_are_read_or_refused_in_one_line(words: list[str]) -> None:
    if not _refused(lambda: parsed(words)):
        found = parsed(words)
        assert parsed(str(found).split()) == found
        assert 0 <= found.jitter <= found.delay <= MAX_DELAY
        assert found.rate == 0 or MIN_RATE <= found.rate <= MAX_RATE


@generated(st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text()), VALUES))
def test_any_values_are_read_or_refused(values: dict[str, object]) -> None:
    _refused(lambda: given(values))
