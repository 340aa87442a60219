"""Every parser of the wire: any bytes are a value that is made into them again, or a WireError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.weave.handshake import Opening
from plugins.weave.wire import MAX_DATAGRAM, Kind, Pattern
from tests.unit.plugins.weave.network import Network
from tests.unit.plugins.weave.parsers import PARSERS, Parser
from tests.unit.plugins.weave.test_handshake import party

each = pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS.keys())


@each
def test_what_is_valid_is_accepted(parser: Parser) -> None:
    assert all(parser.check(seed) for seed in parser.seeds)


@each
def test_what_is_large_is_no_burden(parser: Parser) -> None:
    for first in range(256):
        parser.check(bytes([first]) * MAX_DATAGRAM)


@each
def test_arrays_within_arrays_are_refused_or_skipped(parser: Parser) -> None:
    """A field more than there should be, nested deeper than the interpreter's stack is high."""
    for seed in parser.seeds:
        for depth in (10, 900, 1000):
            parser.check(bytes([seed[0] + 1]) + seed[1:] + b"\x91" * depth + b"\xc0")


@pytest.mark.slow
@each
@given(data=st.binary(max_size=500))
def test_any_bytes(parser: Parser, data: bytes) -> None:
    parser.check(data)


@pytest.mark.slow
@each
@given(data=st.data())
def test_valid_ones_with_bytes_changed_inserted_and_cut(
    parser: Parser, data: st.DataObject
) -> None:
    changed = bytearray(data.draw(st.sampled_from(parser.seeds or (bytes(80),))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=5))
    parser.check(bytes(changed))


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=400)), max_size=20))
def test_a_node_takes_any_datagrams_without_an_error(parts: list[tuple[int, bytes]]) -> None:
    """With the macs of who has the password where there is a place for them: an insider's."""
    network = Network()
    one, two = network.peer(1), network.peer(2)
    network.connect(one, two)
    network.run(0.5)
    insider = party(9, psk=network.crypto.stretch("secret"))
    for first, body in parts:
        datagram = bytes([first]) + body
        network.inject(two.address, one.address, datagram)
        opening = Opening(insider, 7, None, sealed=True)
        noise = (body + opening.first)[:280]
        admission = two.sessions._handshakes._admission
        for message in (noise, opening.first):
            kind, pattern = Kind(first % 2 + 1), Pattern(first // 2 % 2)
            made = admission.message(kind, pattern, 7, message).encode()
            network.inject(two.address, one.address, made)
    network.run(1)
    assert two.id in one.sessions
