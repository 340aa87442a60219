"""Payloads that came in pieces."""

from __future__ import annotations

from itertools import permutations

from netkit.overlay.sleeve.framing import MOST_PIECES
from netkit.overlay.sleeve.reassembly import AT_ONCE, Reassembly

PARTS = [(n, 3 if n == 0 else 0, f"head {n}".encode(), f"<{n}>".encode()) for n in range(3)]


def test_pieces_come_in_any_order() -> None:
    for order in permutations(PARTS):
        parts = Reassembly()
        found = [parts.add(9, *each) for each in order]
        assert found[:2] == [None, None]
        assert found[2] == (b"head 0", b"<0><1><2>")


def test_a_piece_that_comes_twice_counts_once() -> None:
    parts = Reassembly()
    assert [parts.add(9, *PARTS[n]) for n in (0, 1, 1, 0)] == [None] * 4
    assert parts.add(9, *PARTS[2]) == (b"head 0", b"<0><1><2>")


def test_the_oldest_is_given_up() -> None:
    parts = Reassembly()
    for counter in range(AT_ONCE + 1):
        parts.add(counter, *PARTS[0])
    assert parts.add(0, *PARTS[1]) is None
    assert parts.add(0, *PARTS[2]) is None
    assert parts.add(AT_ONCE, *PARTS[1]) is None
    assert parts.add(AT_ONCE, *PARTS[2]) == (b"head 0", b"<0><1><2>")


def test_numbers_that_cannot_be_take_no_place() -> None:
    parts = Reassembly()
    for counter in range(AT_ONCE):
        parts.add(counter, *PARTS[0])
    for counter in range(100, 200):
        assert parts.add(counter, MOST_PIECES, 0, b"", b"") is None
        assert parts.add(counter, 0, MOST_PIECES + 1, b"", b"") is None
        assert parts.add(counter, 0, 0, b"", b"") is None
    parts.add(0, *PARTS[1])
    assert parts.add(0, *PARTS[2]) == (b"head 0", b"<0><1><2>")


def test_a_piece_beyond_the_last_completes_nothing() -> None:
    parts = Reassembly()
    parts.add(9, *PARTS[0])
    parts.add(9, 5, 0, b"", b"")
    assert parts.add(9, *PARTS[1]) is None


def test_runs_of_pieces_are_put_together() -> None:
    for order in permutations([(0, 9, 4), (4, 0, 3), (7, 0, 2)]):
        parts = Reassembly()
        found = [
            parts.add(1, piece, pieces, b"head %d" % piece, b"<%d>" % piece, count)
            for piece, pieces, count in order
        ]
        assert found[:2] == [None, None]
        assert found[2] == (b"head 0", b"<0><4><7>")


def test_runs_that_overlap_are_no_payload() -> None:
    parts = Reassembly()
    assert parts.add(1, 0, 6, b"", b"", 4) is None
    assert parts.add(1, 3, 0, b"", b"", 2) is None
    assert parts.add(1, 4, 0, b"last", b"x", 2) == (b"", b"x")
