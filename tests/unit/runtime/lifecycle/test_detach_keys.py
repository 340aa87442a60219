"""Detach keys, in one piece and in many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import InvalidSpec
from runtime.lifecycle.detach_keys import DetachKeyDetector, parse


def test_keys_are_parsed_as_a_terminal_sends_them() -> None:
    assert parse(None) == b"\x10\x11"
    assert parse("a,ctrl-[,ctrl-@") == b"a\x1b\x00"
    assert parse("") == b""


@pytest.mark.parametrize("text", ["ctrl-", "alt-x", "ctrl-1", "ab", "a,,b"])
def test_bad_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="Unknown character"):
        parse(text)


@pytest.mark.slow
@given(st.lists(st.binary(max_size=5), max_size=6))
def test_what_is_not_the_sequence_is_delivered_whole(pieces: list[bytes]) -> None:
    detector, out = DetachKeyDetector(b"\x10\x11"), b""
    sent = b""
    for piece in pieces:
        sent += piece
        got, found = detector.feed(piece)
        out += got
        if found:
            assert b"\x10\x11" in sent
            assert out == sent[: sent.index(b"\x10\x11")]
            return
    assert b"\x10\x11" not in sent
    assert out == sent.removesuffix(b"\x10")


def test_the_sequence_is_found_across_pieces() -> None:
    detector = DetachKeyDetector(b"\x10\x11")
    assert detector.feed(b"ls\x10") == (b"ls", False)
    assert detector.feed(b"\x11rest") == (b"", True)
