"""Any bytes are a value that is made into them again, or a WireError, and nothing else."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.weave import messages
from plugins.weave.control import Control, What
from plugins.weave.crypto import MAC, TAG
from plugins.weave.identity import PeerId
from plugins.weave.limits import HOPS
from plugins.weave.wire import (
    COOKIE,
    HANDSHAKE,
    HEADER,
    MAX_CARRIED,
    MAX_DATAGRAM,
    MAX_MESSAGE,
    MAX_SEALED,
    NOISE,
    PATH_FLOOR,
    Codec,
    Cookie,
    Handshake,
    Kind,
    Pattern,
    Transport,
    WireError,
    header,
    parse,
)

pytestmark = pytest.mark.slow
INDEX = st.integers(0, 2**32 - 1)
HANDSHAKES = st.builds(
    Handshake,
    st.sampled_from([Kind.FIRST, Kind.SECOND]),
    st.sampled_from(Pattern),
    INDEX,
    st.binary(min_size=NOISE, max_size=NOISE),
    st.binary(min_size=MAC, max_size=MAC),
    st.binary(min_size=MAC, max_size=MAC),
)
COOKIES = st.builds(
    Cookie,
    INDEX,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=MAC + TAG, max_size=MAC + TAG),
)
TRANSPORTS = st.builds(
    Transport,
    st.sampled_from([Kind.CONTROL, Kind.DATA, Kind.PROBE]),
    st.integers(0, 255),
    INDEX,
    st.integers(0, 2**64 - 1),
    st.binary(min_size=TAG, max_size=200),
)
DATAGRAMS = st.one_of(HANDSHAKES, COOKIES, TRANSPORTS)


@given(DATAGRAMS)
def test_what_is_made_is_read_as_it_was(value: Handshake | Cookie | Transport) -> None:
    assert parse(value.encode()) == value


@given(DATAGRAMS, st.data())
def test_what_is_changed_is_read_as_what_it_is_or_refused(
    value: Handshake | Cookie | Transport, data: st.DataObject
) -> None:
    changed = bytearray(value.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, min(len(changed), 20) - 1))] = data.draw(
            st.integers(0, 255)
        )
    _same_or_refused(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    _same_or_refused(bytes(changed))


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x03\x01" + bytes(HANDSHAKE - 2))
@example(bytes([Kind.CONTROL]) + bytes(HEADER + TAG - 1))
@example(bytes([Kind.CONTROL]) + bytes(MAX_DATAGRAM))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    _same_or_refused(data)


@given(st.integers(0, 255), st.binary(min_size=HANDSHAKE - 1, max_size=HANDSHAKE - 1))
def test_any_bytes_of_the_size_of_a_handshake(first: int, data: bytes) -> None:
    _same_or_refused(bytes([first]) + data)


@given(st.binary(min_size=COOKIE - 1, max_size=COOKIE - 1))
def test_any_bytes_of_the_size_of_a_cookie(data: bytes) -> None:
    _same_or_refused(bytes([Kind.COOKIE]) + data)


def _same_or_refused(data: bytes) -> None:
    try:
        value = parse(data)
    except WireError:
        return
    assert value.encode() == data


def test_sizes_are_as_documented() -> None:
    assert (HANDSHAKE, COOKIE, HEADER) == (320, 56, 16)
    assert len(header(Kind.DATA, 1, 2, 3)) == HEADER


def test_the_longest_message_is_relayed_without_being_cut() -> None:
    """Sealed between its ends, then in an envelope that is sealed between neighbours."""
    inner = Control(What.MESSAGE, bytes(MAX_MESSAGE)).encode()
    sealed = header(Kind.CONTROL, 1, 2) + inner + bytes(TAG)
    assert len(sealed) == MAX_SEALED
    peer = PeerId(bytes(16))
    relay = messages.encode(messages.Relay(peer, peer, HOPS, sealed))
    assert len(relay) <= MAX_CARRIED
    assert HEADER + len(Control(What.MESSAGE, relay).encode()) + TAG <= PATH_FLOOR
    first = Handshake(Kind.FIRST, Pattern.IK, 5, bytes(NOISE), bytes(MAC), bytes(MAC)).encode()
    assert len(first) <= messages.DATAGRAM


def test_macs_are_over_all_that_stands_before_them() -> None:
    message = Handshake(Kind.FIRST, Pattern.IK, 5, bytes(NOISE), b"1" * MAC, b"2" * MAC)
    assert message.before_mac1 + b"1" * MAC == message.before_mac2
    assert message.before_mac2 + b"2" * MAC == message.encode()


class One(msgspec.Struct, frozen=True, array_like=True, tag=1):
    data: Annotated[bytes, msgspec.Meta(max_length=8)]


class Two(msgspec.Struct, frozen=True, array_like=True, tag=2):
    text: Annotated[str, msgspec.Meta(max_length=8)]
    numbers: Annotated[tuple[int, ...], msgspec.Meta(max_length=3)]


CODEC: Codec[One | Two] = Codec(One | Two)  # type: ignore[arg-type]
VALUES = st.one_of(
    st.builds(One, st.binary(max_size=8)),
    st.builds(Two, st.text(max_size=8), st.tuples(st.integers(-(2**63), 2**64 - 1))),
)


@given(VALUES)
def test_a_message_is_read_as_it_was_made(value: One | Two) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value


@given(st.one_of(st.binary(max_size=60), VALUES.map(CODEC.encode)), st.binary(max_size=3))
@example(b"\x92\x02\xa2\xff\xff", b"")
@example(b"\x94\x02\xa1a\x90" + b"\x91" * 1000, b"")
@example(b"\x92\x01\xdd\xff\xff\xff\xff", b"")
@example(b"\x92\x01\xc6\xff\xff\xff\xff", b"")
def test_any_bytes_are_a_message_or_refused(data: bytes, tail: bytes) -> None:
    try:
        value = CODEC.decode(data + tail)
    except WireError:
        return
    assert CODEC.decode(CODEC.encode(value)) == value


def test_a_message_has_a_longest_size_both_ways() -> None:
    small: Codec[bytes] = Codec(bytes, longest=10)
    assert small.decode(small.encode(bytes(8))) == bytes(8)
    with pytest.raises(ValueError, match="more than 10"):
        small.encode(bytes(9))
    with pytest.raises(WireError, match="more than 10"):
        small.decode(bytes(11))
