"""The format of datagrams, and how payloads are cut."""

from __future__ import annotations

import pytest

from netkit.overlay.sleeve import framing
from netkit.overlay.sleeve.framing import FRONT, HEAD, LARGEST, SMALLEST, TAG, Cut


def test_a_header_is_as_the_overlays_wire_has_it() -> None:
    made = framing.header(framing.FLAG_BUNDLE, 3, 44, 0x01020304, 0x1122334455667788)
    assert made.hex() == "0601032c010203041122334455667788"
    assert framing.read(b"xx" + made, 2) == (6, 1, 3, 44, 0x01020304, 0x1122334455667788)


@pytest.mark.parametrize(
    ("size", "most", "frame"),
    [(552, 64, 64 * 536), (1252, 52, 52 * 1236), (1472, 44, 44 * 1456), (8972, 7, 7 * 8956),
     (LARGEST, 1, LARGEST - HEAD)],
)  # fmt: skip
def test_a_call_takes_what_the_kernel_does(size: int, most: int, frame: int) -> None:
    cut = Cut(size)
    assert (cut.most, cut.longest_frame) == (most, frame - TAG - FRONT)
    assert most * size <= framing.MOST_BYTES


@pytest.mark.parametrize("size", [0, SMALLEST - 1, LARGEST + 1])
def test_sizes_that_no_path_has_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"datagrams of {size} bytes"):
        Cut(size)


def test_pieces_are_counted() -> None:
    cut = Cut(1472)
    assert [cut.pieces(n) for n in (1, 1456, 1457, 2912, 2913)] == [1, 1, 2, 2, 3]
