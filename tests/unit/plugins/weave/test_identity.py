"""Who a peer is, and that it is not two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import Conflict, StoreError
from plugins.weave import identity
from plugins.weave.identity import PEER_ID, PublicKeys, short
from plugins.weave.primitives import Primitives
from tests.simulation.crypto import FakeCrypto
from tests.unit.plugins.weave.seeds import seeded

CRYPTO = FakeCrypto()
MACHINE = "8d2a01c6f1b94d3d8dcb3bcb4d6f0a11\n"


def test_a_peers_id_follows_from_its_keys() -> None:
    one = identity.make(CRYPTO, seeded(1))
    assert len(one.peer) == PEER_ID
    assert one.peer == PublicKeys(one.public.signing, one.public.exchange).peer
    assert one.peer != PublicKeys(one.public.exchange, one.public.signing).peer
    assert one.peer != identity.make(CRYPTO, seeded(2)).peer
    assert short(one.peer) == one.peer.hex()[:12]


def test_an_identity_is_kept() -> None:
    crypto = Primitives()
    made = identity.make(crypto, seeded(1))
    assert identity.load(identity.dump(made, MACHINE), MACHINE.strip(), crypto) == made


def test_private_keys_are_in_no_repr() -> None:
    made = identity.make(CRYPTO, seeded(1))
    assert repr(made.signing) not in repr(made)
    assert repr(made.exchange) not in repr(made)


def test_a_copy_on_another_machine_is_refused_with_the_remedy() -> None:
    data = identity.dump(identity.make(CRYPTO, seeded(1)), MACHINE)
    with pytest.raises(Conflict, match=r"another machine.*weave reset"):
        identity.load(data, "another", CRYPTO)
    assert MACHINE.strip().encode() not in data


@pytest.mark.parametrize(("then", "now"), [("", "a"), ("a", ""), ("", "")])
def test_a_machine_without_an_id_is_taken_for_the_same(then: str, now: str) -> None:
    made = identity.make(CRYPTO, seeded(1))
    assert identity.load(identity.dump(made, then), now, CRYPTO) == made


@pytest.mark.slow
@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_damaged_state_is_said_to_be_damaged(at: int, flip: int) -> None:
    data = bytearray(identity.dump(identity.make(CRYPTO, seeded(1)), MACHINE))
    data[at % len(data)] ^= flip
    with pytest.raises(StoreError, match="damaged"):
        identity.load(bytes(data), MACHINE, CRYPTO)


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_a_state_of_any_bytes_is_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(StoreError, match="damaged"):
        identity.load(data, MACHINE, CRYPTO)
