"""Messages on the control socket: any packets are messages, or end the connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.overlay import packets as module
from netkit.overlay import verbs
from netkit.overlay.packets import LONGEST, PART, Assembly, Broken, packets


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART])
def test_a_message_of_any_size_arrives_as_it_was_sent(size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assembly = Assembly()
    found = [assembly.add(packet) for packet in packets(message)]
    assert found[-1] == message
    assert found[:-1] == [None] * (len(found) - 1)


def test_the_next_message_begins_anew() -> None:
    assembly = Assembly()
    assert [assembly.add(p) for each in (b"one", b"two") for p in packets(each)] == [b"one", b"two"]


def test_who_sends_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 1000)
    assembly = Assembly()
    for _ in range(10):
        assembly.add(b"\1" + bytes(100))
    with pytest.raises(Broken):
        assembly.add(b"\1" + bytes(100))


def test_what_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="bytes"):
        list(packets(bytes(LONGEST + 1)))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_packets_are_messages_or_broken(received: list[bytes]) -> None:
    assembly = Assembly()
    try:
        for packet in received:
            assembly.add(packet)
    except Broken:
        return
    assert all(packet[:1] in {b"\0", b"\1"} for packet in received)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_unreadable(data: bytes) -> None:
    try:
        call = verbs.call(data)
    except verbs.UNREADABLE:
        return
    assert verbs.call(verbs.encode(call)) == call


@pytest.mark.parametrize("verb", [
    verbs.Connect(peers=(verbs.Peer(host="192.0.2.7", port=6783, name="h1"),)),
    verbs.PutNetwork(network=verbs.Network(
        id="ab", name="lane", vni=7, bridge="wv-ab", tap="wt-ab", vxlan="wx-ab",
    )),
    verbs.Endpoints(endpoints=(verbs.Endpoint(
        id="e", network="ab", mac="02:42:0a:20:00:02", addresses=("10.32.0.2",), names=("web",),
    ),)),
    verbs.Claim(ident="e", address="10.32.5.7/24"),
    verbs.Stop(),
])  # fmt: skip
def test_a_verb_arrives_as_it_was_asked(verb: verbs.Known) -> None:
    assert verbs.call(verbs.encode(verbs.Call(1, verb))) == verbs.Call(1, verb)


@pytest.mark.parametrize("mac", ["02:42", "02-42-0a-20-00-02", "02:42:0A:20:00:02\n", ""])
def test_what_is_no_mac_address_is_unreadable(mac: str) -> None:
    ask = {"do": "expose", "network": "ab", "mac": mac, "addresses": []}
    with pytest.raises(verbs.UNREADABLE):
        verbs.call(verbs.encode([1, ask]))
    with pytest.raises(verbs.UNREADABLE):
        verbs.call(verbs.encode({"number": 1, "verb": ask}))
