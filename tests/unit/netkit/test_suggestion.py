"""Hints name a word only when it is close."""

from __future__ import annotations

import pytest

from netkit.suggestion import distance, nearest
from tests.places import ROOT

COMMANDS = "attach cp create exec images kill load port ps pull rm run save start stop tag".split()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("imags", "images"),
        ("strat", "start"),
        ("crate", "create"),
        ("Run", "run"),
        ("sotp", "stop"),
    ],
)
def test_a_slip_is_found(word: str, meant: str) -> None:
    assert nearest(word, COMMANDS) == meant


@pytest.mark.parametrize("word", ["build", "commit", "volume", "login", "search", "x", "swarm"])
def test_another_word_is_not_a_slip(word: str) -> None:
    assert nearest(word, COMMANDS) is None


def test_the_last_part_of_a_name_is_found_if_it_is_of_one() -> None:
    known = ("com.docker.network.driver.mtu", "com.docker.network.bridge.name")
    assert nearest("mtu", known) == known[0]
    assert nearest("mtu", (*known, "other.mtu")) is None


def test_distance_counts_slips() -> None:
    assert [distance(a, b) for a, b in (("", "ab"), ("ab", "ba"), ("abc", "ac"), ("a", "a"))] == [
        2, 1, 1, 0,
    ]  # fmt: skip


def test_a_long_word_is_cut_off() -> None:
    assert nearest("x" * 1_000_000, ["y" * 1_000_000]) is None


def test_nothing_else_guesses_what_was_meant() -> None:
    """All modules use one measure of similarity, not difflib's."""
    root = ROOT
    files = (f for part in ("netkit", "runtime", "plugins") for f in (root / part).rglob("*.py"))
    assert [f for f in files if "difflib" in f.read_text()] == []
