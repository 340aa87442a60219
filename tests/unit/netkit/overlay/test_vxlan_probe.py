from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.overlay.core import Probe
from netkit.overlay.vxlan_probe import SHORTEST, VXLAN, content, datagram

SOURCE = IPv4Address("10.32.0.2")
MAC = bytes.fromhex("02420a200002")


@given(st.binary(max_size=100), st.integers(0, 2000))
def test_what_is_sent_is_what_is_seen_at_the_device(data: bytes, more: int) -> None:
    probe = Probe("192.0.2.1", 7, MAC, str(SOURCE), data, SHORTEST + len(data) + more)
    sent = datagram(probe, SOURCE)
    assert len(sent) == probe.size
    assert VXLAN.unpack_from(sent) == (8, 7 << 8)
    assert content(sent[VXLAN.size :]) == (data, probe.size)


def test_what_does_not_fit_is_an_error() -> None:
    probe = Probe("192.0.2.1", 7, MAC, str(SOURCE), b"abc", SHORTEST + 2)
    with pytest.raises(ValueError, match="do not fit"):
        datagram(probe, SOURCE)


@given(st.binary(max_size=200))
def test_any_frame_is_a_probe_or_none(frame: bytes) -> None:
    content(frame)
    head = datagram(Probe("192.0.2.1", 7, MAC, str(SOURCE), b"", SHORTEST), SOURCE)[8:-2]
    found = content(head + frame)
    assert found is None or found[1] == len(head) + len(frame) + 8
