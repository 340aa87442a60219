"""What peers tell each other in a handshake, and that nothing else gets into it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.weave import handshake
from plugins.weave.handshake import Answering, Hello, Opening, Party
from plugins.weave.identity import PublicKeys, make
from plugins.weave.noise import NoiseHandshake
from plugins.weave.wire import NOISE, Pattern, WireError
from tests.simulation.crypto import FakeCrypto
from tests.unit.plugins.weave.seeds import seeded

CRYPTO = FakeCrypto()


def party(number: int, **fields: Any) -> Party:
    random = seeded(number)
    values: dict[str, Any] = {
        "crypto": CRYPTO,
        "random": random,
        "us": make(CRYPTO, random),
        "psk": bytes(32),
        "instance": bytes([number]) * 8,
        **fields,
    }
    return Party(**values)


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_both_sides_learn_who_the_other_is(known: bool) -> None:
    one, two = party(1, features=3), party(2, features=4)
    opening = Opening(one, 11, two.us.public if known else None, sealed=True)
    answering = Answering(two, opening.pattern, 11, opening.first)
    assert answering.keys == (one.us.public if known else None)
    second = answering.second(22, sealed=False)
    agreed, third = opening.second(second)
    theirs = answering.agreed(third)
    assert len(opening.first) == len(second) == NOISE
    assert len(third) == (0 if known else NOISE)
    assert (agreed.keys, theirs.keys) == (two.us.public, one.us.public)
    assert (agreed.hello.index, theirs.hello.index) == (22, 11)
    assert (agreed.hello.features, theirs.hello.features) == (4, 3)
    assert (agreed.hello.sealed, theirs.hello.sealed) == (False, True)
    assert (agreed.sending, agreed.receiving) == (theirs.receiving, theirs.sending)
    assert agreed.version == theirs.version == 1


@pytest.mark.parametrize("known", [False, True], ids=["XX", "IK"])
def test_the_index_of_a_first_message_cannot_be_exchanged(known: bool) -> None:
    one, two = party(1), party(2)
    opening = Opening(one, 11, two.us.public if known else None, sealed=True)
    with pytest.raises(WireError):
        Answering(two, opening.pattern, 12, opening.first)


def test_a_first_message_of_one_pattern_is_none_of_the_other() -> None:
    one, two = party(1), party(2)
    with pytest.raises(WireError):
        Answering(two, Pattern.IK, 11, Opening(one, 11, None, sealed=True).first)
    with pytest.raises(WireError):
        Answering(two, Pattern.XX, 11, Opening(one, 11, two.us.public, sealed=True).first)


def test_a_peer_that_signs_with_another_key_than_known_is_refused() -> None:
    one, two = party(1), party(2)
    expected = PublicKeys(bytes(32), two.us.public.exchange)
    opening = Opening(one, 11, expected, sealed=True)
    answering = Answering(two, Pattern.IK, 11, opening.first)
    with pytest.raises(WireError, match="signing key"):
        opening.second(answering.second(22, sealed=True))


@pytest.mark.parametrize(
    ("oldest", "newest", "version"), [(1, 1, 1), (0, 9, 1), (2, 3, 0), (0, 0, 0), (1, 0, 0)]
)
def test_the_newest_common_version_is_spoken(oldest: int, newest: int, version: int) -> None:
    hello = msgspec.structs.replace(party(1).hello(1, sealed=True), oldest=oldest, newest=newest)
    agreed = handshake.Agreed(
        keys=party(1).us.public, hello=hello, said=True, sending=b"", receiving=b""
    )
    assert agreed.version == version


def test_a_hello_of_a_newer_version_with_more_fields_is_understood() -> None:
    class Newer(Hello, frozen=True, array_like=True):
        more: bytes

    hello = party(1).hello(1, sealed=True)
    newer = Newer(**msgspec.structs.asdict(hello), more=bytes(50))
    assert handshake._CODEC.decode(msgspec.msgpack.encode(newer)) == hello


HELLOS = st.builds(
    Hello,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)


@given(HELLOS)
@pytest.mark.slow
def test_every_hello_fits_into_every_message(hello: Hello) -> None:
    encoded = handshake._CODEC.encode(hello)
    assert handshake._CODEC.decode(encoded) == hello
    # The least room: a key, a sealed key, the tag, the length.
    assert handshake.LONGEST_HELLO <= NOISE - 32 - 48 - 16 - 2


@pytest.mark.slow
@given(st.one_of(st.binary(max_size=184), HELLOS.map(msgspec.msgpack.encode)), st.binary())
def test_whatever_a_peer_seals_is_a_hello_or_refused(body: bytes, more: bytes) -> None:
    """Payloads of an insider: any bytes where a length and a Hello should be."""
    one, two = party(1), party(2)
    opening = Opening(one, 11, two.us.public, sealed=True)
    answering = Answering(two, Pattern.IK, 11, opening.first)
    noise: NoiseHandshake = answering._noise
    payload = (len(body).to_bytes(2, "big") + body + more)[:232].ljust(232, b"\0")
    try:
        agreed, _ = opening.second(noise.write(payload))
    except WireError:
        return
    assert agreed.hello == handshake._CODEC.decode(body)


def test_what_is_said_beside_a_hello_is_refused() -> None:
    one, two = party(1), party(2)
    body = handshake._CODEC.encode(two.hello(22, sealed=True))
    for payload in (
        len(body).to_bytes(2, "big") + body + b"more",
        (len(body) - 1).to_bytes(2, "big") + body,
        (500).to_bytes(2, "big") + body,
    ):
        opening = Opening(one, 11, two.us.public, sealed=True)
        noise = Answering(two, Pattern.IK, 11, opening.first)._noise
        with pytest.raises(WireError):
            opening.second(noise.write(payload.ljust(232, b"\0")))


def test_a_hello_with_another_index_than_its_datagram_is_refused() -> None:
    class Inconsistent(Party):
        def hello(self, index: int, *, sealed: bool) -> Hello:
            return super().hello(index + 1, sealed=sealed)

    one, two = party(1), party(2)
    fields = {name: getattr(one, name) for name in Party.__slots__}
    opening = Opening(Inconsistent(**fields), 11, two.us.public, sealed=True)
    with pytest.raises(WireError, match="index"):
        Answering(two, Pattern.IK, 11, opening.first)
