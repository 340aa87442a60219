"""Noise as two implementations have it: ours and that of the package noiseprotocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise.connection import Keypair, NoiseConnection

from plugins.weave.noise import KeyPair, NoiseHandshake
from plugins.weave.primitives import Primitives
from plugins.weave.wire import NOISE, Pattern, WireError

CRYPTO = Primitives()
NAMES = {
    Pattern.XX: b"Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s",
    Pattern.IK: b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s",
}
ROUNDS = {Pattern.XX: 3, Pattern.IK: 2}
PATTERNS = pytest.mark.parametrize("pattern", list(Pattern))


def pair(private: bytes) -> KeyPair:
    return KeyPair(private, CRYPTO.exchange_public(private))


@dataclass
class Keys:
    initiator: bytes = bytes([1]) * 32
    responder: bytes = bytes([2]) * 32
    first: bytes = bytes([3]) * 32  # the initiator's ephemeral one
    second: bytes = bytes([4]) * 32
    psk: bytes = bytes([5]) * 32
    prologue: bytes = b"prologue"


def ours(pattern: Pattern, keys: Keys, *, initiator: bool, **other: Any) -> NoiseHandshake:
    return NoiseHandshake(
        CRYPTO,
        pattern,
        initiator=initiator,
        prologue=keys.prologue,
        static=pair(keys.initiator if initiator else keys.responder),
        ephemeral=pair(keys.first if initiator else keys.second),
        psk=other.get("psk", keys.psk),
        remote=pair(keys.responder).public if initiator and pattern == Pattern.IK else b"",
    )


def theirs(pattern: Pattern, keys: Keys, *, initiator: bool) -> NoiseConnection:
    made = NoiseConnection.from_name(NAMES[pattern])
    made.set_as_initiator() if initiator else made.set_as_responder()
    made.set_prologue(keys.prologue)
    made.set_psks(keys.psk)
    static = keys.initiator if initiator else keys.responder
    made.set_keypair_from_private_bytes(Keypair.STATIC, static)
    if initiator and pattern == Pattern.IK:
        made.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, pair(keys.responder).public)
    made.start_handshake()
    return made


KEY = st.binary(min_size=32, max_size=32)
KEYS = st.builds(Keys, KEY, KEY, KEY, KEY, KEY, st.binary(max_size=40))
PAYLOADS = st.lists(st.binary(max_size=100), min_size=3, max_size=3)


@pytest.mark.slow
@PATTERNS
@pytest.mark.parametrize("initiator", [True, False])
@settings(max_examples=25)
@given(keys=KEYS, payloads=PAYLOADS)
def test_another_implementation_understands_ours_and_we_it(
    pattern: Pattern, initiator: bool, keys: Keys, payloads: list[bytes]
) -> None:
    we, they = (
        ours(pattern, keys, initiator=initiator),
        theirs(pattern, keys, initiator=not initiator),
    )
    for number, payload in enumerate(payloads[: ROUNDS[pattern]]):
        if (number % 2 == 0) == initiator:
            assert they.read_message(we.write(payload)) == payload
        else:
            assert we.read(bytes(they.write_message(payload))) == payload
    assert we.complete
    assert they.handshake_finished
    assert we.hash == they.get_handshake_hash()
    sending, receiving = we.split()
    assert they.decrypt(CRYPTO.aead(sending).seal(0, b"there", b"")) == b"there"
    assert CRYPTO.aead(receiving).open(0, bytes(they.encrypt(b"back")), b"") == b"back"


@PATTERNS
def test_both_sides_agree_and_know_each_other(pattern: Pattern) -> None:
    keys = Keys()
    one, two = (ours(pattern, keys, initiator=side) for side in (True, False))
    sides = [one, two]
    for number in range(ROUNDS[pattern]):
        writer, reader = sides[number % 2], sides[1 - number % 2]
        payload = bytes(writer.room(NOISE))
        message = writer.write(payload)
        assert len(message) == NOISE
        assert reader.read(message) == payload
    assert one.hash == two.hash
    assert one.split() == two.split()[::-1]
    assert one.remote == pair(keys.responder).public
    assert two.remote == pair(keys.initiator).public


@PATTERNS
def test_another_password_is_noticed_in_the_last_message(pattern: Pattern) -> None:
    keys = Keys()
    one = ours(pattern, keys, initiator=True)
    two = ours(pattern, keys, initiator=False, psk=bytes(32))
    sides = [one, two]
    for number in range(ROUNDS[pattern]):
        message = sides[number % 2].write(b"")
        if number == ROUNDS[pattern] - 1:
            with pytest.raises(WireError, match="password"):
                sides[1 - number % 2].read(message)
        else:
            sides[1 - number % 2].read(message)


@PATTERNS
def test_a_message_that_cannot_be_read_leaves_all_as_it_was(pattern: Pattern) -> None:
    keys = Keys()
    sides = [ours(pattern, keys, initiator=side) for side in (True, False)]
    for number in range(ROUNDS[pattern]):
        writer, reader = sides[number % 2], sides[1 - number % 2]
        message = writer.write(b"payload")
        for bad in (b"", message[:-1], message[:20], message[:-1] + bytes([message[-1] ^ 1])):
            with pytest.raises(WireError):
                reader.read(bad)
        assert reader.read(message) == b"payload"


@PATTERNS
def test_a_key_of_low_order_is_refused(pattern: Pattern) -> None:
    keys = Keys()
    one, two = (ours(pattern, keys, initiator=side) for side in (True, False))
    one._ephemeral = KeyPair(keys.first, bytes(32))
    forged = one.write(b"")
    if pattern == Pattern.XX:  # which uses it no earlier than in the answer
        two.read(forged)
        with pytest.raises(WireError, match="low order"):
            two.write(b"")
    else:
        with pytest.raises(WireError, match="low order"):
            two.read(forged)
