"""The primitives, and that the fake of the tests tells apart what they tell apart."""

from __future__ import annotations

import subprocess
import sys

import pytest

from plugins.weave.crypto import KEY, NO_PASSWORD, SIGNATURE, TAG, Crypto, derive
from plugins.weave.primitives import Primitives
from tests.places import ROOT
from tests.simulation.crypto import FakeCrypto

ONE, TWO = bytes([1]) * KEY, bytes([2]) * KEY


@pytest.fixture(params=[Primitives, FakeCrypto], ids=["real", "fake"])
def crypto(request: pytest.FixtureRequest) -> Crypto:
    made: Crypto = request.param()
    return made


def test_two_peers_share_a_secret(crypto: Crypto) -> None:
    shared = crypto.shared(ONE, crypto.exchange_public(TWO))
    assert shared == crypto.shared(TWO, crypto.exchange_public(ONE))
    assert shared is not None
    assert len(shared) == KEY
    assert shared != crypto.shared(ONE, crypto.exchange_public(bytes([3]) * KEY))


def test_a_point_of_low_order_is_refused(crypto: Crypto) -> None:
    assert crypto.shared(ONE, bytes(KEY)) is None


# RFC 7748 section 6.1 and its errata: the points of order 1, 2, 4 and 8 on the curve and its twist.
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_every_point_of_low_order_is_refused(point: str) -> None:
    assert Primitives().shared(ONE, bytes.fromhex(point)) is None


def test_a_signature_holds_for_its_key_and_message_alone(crypto: Crypto) -> None:
    public = crypto.signing_public(ONE)
    signature = crypto.sign(ONE, b"message")
    assert len(signature) == SIGNATURE
    assert signature == crypto.sign(ONE, b"message")
    assert crypto.verify(public, b"message", signature)
    assert not crypto.verify(public, b"massage", signature)
    assert not crypto.verify(crypto.signing_public(TWO), b"message", signature)
    assert not crypto.verify(public, b"message", crypto.sign(TWO, b"message"))


@pytest.mark.parametrize(("public", "signature"), [(b"", b""), (b"x", b"y"), (ONE, b"z" * 64)])
def test_what_is_no_signature_verifies_nothing(
    crypto: Crypto, public: bytes, signature: bytes
) -> None:
    assert not crypto.verify(public, b"message", signature)


def test_what_was_sealed_opens_as_it_was_sealed_alone(crypto: Crypto) -> None:
    aead = crypto.aead(ONE)
    sealed = aead.seal(7, b"plain", b"header")
    assert len(sealed) == len(b"plain") + TAG
    assert aead.open(7, sealed, b"header") == b"plain"
    assert aead.open(8, sealed, b"header") is None
    assert aead.open(7, sealed, b"heades") is None
    assert aead.open(7, sealed[:-1], b"header") is None
    assert aead.open(7, bytes([sealed[0] ^ 1]) + sealed[1:], b"header") is None
    assert crypto.aead(TWO).open(7, sealed, b"header") is None
    assert aead.open(7, b"", b"header") is None
    assert aead.open(2**64 - 1, aead.seal(2**64 - 1, b"", b""), b"") == b""


def test_chacha20_poly1305_gets_nonces_as_noise_has_them() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce = bytes.fromhex("000000000807060504030201")
    expected = ChaCha20Poly1305(ONE).encrypt(nonce, b"plain", b"header")
    assert Primitives().aead(ONE).seal(0x0102030405060708, b"plain", b"header") == expected


def test_without_a_password_the_key_is_zeros(crypto: Crypto) -> None:
    assert crypto.stretch("") == NO_PASSWORD


@pytest.mark.slow
def test_a_password_gives_the_key_it_always_gave() -> None:
    key = "42b8ef00dd997611f434265fdf41d2e540b63cc8a07ab817139455c3f842b5b8"
    assert Primitives().stretch("pässword").hex() == key  # or peers of two versions never meet


def test_keys_for_two_purposes_differ() -> None:
    assert derive(ONE, b"control") != derive(ONE, b"data") != derive(TWO, b"data")


@pytest.mark.slow
def test_who_lists_drivers_does_not_load_cryptography() -> None:
    code = "import plugins.weave, plugins.weave.wire, sys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
