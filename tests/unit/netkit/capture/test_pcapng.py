"""Blocks are as the draft has them, and as others read them."""

from __future__ import annotations

import struct
from pathlib import Path

from scapy.utils import RawPcapNgReader

from netkit.capture.pcapng import (
    INBOUND,
    UNICAST,
    Counts,
    interface,
    packet,
    section,
    statistics,
)

STAMP = (0x00060000 << 32) + 0x12345678  # 1,688,849,860,... s: halves that differ
FRAME = bytes(range(61))


def little(text: str) -> bytes:
    """Hexadecimal digits as a little-endian machine writes them."""
    return bytes.fromhex(text.replace(" ", ""))


def test_a_section_has_its_magic_its_version_and_no_length() -> None:
    # Figure 9 of the draft, with shb_userappl, opt_endofopt
    assert section("nk") == little(
        "0a0d0d0a 28000000 4d3c2b1a 0100 0000 ffffffffffffffff 0400 0200 6e6b0000 00000000 28000000"
    )


def test_an_interface_has_name_description_and_nanoseconds() -> None:
    assert interface("web", "w e", 1, 64) == little(
        "01000000 30000000 0100 0000 40000000"
        "0200 0300 77656200 0300 0300 77206500 0900 0100 09000000 00000000 30000000"
    )


def test_a_packet_is_padded_and_has_its_flags_and_comments() -> None:
    assert packet(2, STAMP, b"abcde", 99, INBOUND | UNICAST, ["x"]) == little(
        "06000000 3c000000 02000000 00000600 78563412 05000000 63000000"
        "6162636465000000 0200 0400 05000000 0100 0100 78000000 00000000 3c000000"
    )


def test_a_packet_without_options_ends_with_its_data() -> None:
    assert packet(0, 1, b"abcd", 4) == little(
        "06000000 24000000 00000000 00000000 01000000 04000000 04000000 61626364 24000000"
    )


def test_statistics_have_start_end_received_and_dropped() -> None:
    counts = Counts(start=1, end=2 << 32, received=7, dropped=3)
    assert statistics(1, counts) == little(
        "05000000 4c000000 01000000 02000000 00000000"
        "0200 0800 00000000 01000000 0300 0800 02000000 00000000"
        "0400 0800 0700000000000000 0500 0800 0300000000000000 00000000 4c000000"
    )


def test_every_length_is_a_multiple_of_four_and_is_repeated() -> None:
    for size in range(8):
        block = packet(0, 0, bytes(size), size, comments=["y" * size])
        first, last = struct.unpack("=I", block[4:8]), struct.unpack("=I", block[-4:])
        assert first == last == (len(block),)
        assert len(block) % 4 == 0


def test_a_long_text_is_cut_between_characters() -> None:
    block = interface("ü" * 5000, "", 1, 64)
    assert len(block) < 4096 + 64
    block.decode(errors="ignore")
    assert block[20:4116].decode() == "ü" * 2048


def test_scapy_reads_names_stamps_directions_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "three.pcapng"
    stamps = [1_700_000_000_123_456_789 + n for n in range(3)]
    blocks = [section("t"), *(interface(f"i{n}@eth0", "", 1, 65535) for n in range(3))]
    blocks += [packet(n, stamps[n], FRAME, 99, INBOUND, [f"c{n}"]) for n in (2, 0, 1)]
    blocks += [statistics(0, Counts(start=0, end=1, received=1, dropped=0))]
    file.write_bytes(b"".join(blocks))
    with RawPcapNgReader(str(file)) as reader:
        read = list(reader)
    assert [m.ifname for _, m in read] == [b"i2@eth0", b"i0@eth0", b"i1@eth0"]
    assert [(m.tshigh << 32) + m.tslow for _, m in read] == [stamps[n] for n in (2, 0, 1)]
    assert {m.tsresol for _, m in read} == {10**9}
    assert [m.comments for _, m in read] == [[b"c2"], [b"c0"], [b"c1"]]
    assert {(m.direction, m.wirelen) for _, m in read} == {(INBOUND, 99)}
    assert [data for data, _ in read] == [FRAME] * 3
