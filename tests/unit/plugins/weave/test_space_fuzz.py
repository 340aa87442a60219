"""Messages about addresses that somebody made up, or changed on their way."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.weave.ledger import load
from plugins.weave.prefixes import decode
from plugins.weave.space_messages import CODEC
from plugins.weave.space_status import in_use, usable
from plugins.weave.wire import WireError
from tests.unit.plugins.weave.space_world import RANGE, Host, World


@given(st.binary(max_size=1200))
@example(b"\x94\x0d")
def test_bytes_are_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = CODEC.decode(data)
    except WireError:
        return
    assert CODEC.decode(CODEC.encode(message)) == message


@given(st.binary(max_size=64))
def test_bytes_are_a_prefix_or_a_wire_error(data: bytes) -> None:
    try:
        assert decode(data).encode() == data
    except WireError:
        return


class Listening(World):
    """One that keeps what was said."""

    def __init__(self, seed: int, hosts: int) -> None:
        self.said: list[bytes] = []
        super().__init__(seed, hosts, loss=0.0)

    def send(self, source: Host, peer: object, data: bytes) -> None:
        self.said.append(data)
        super().send(source, peer, data)  # type: ignore[arg-type]


def busy() -> Listening:
    made = Listening(5, 3)
    made.launch()
    made.run(30)
    for host in made.hosts:
        host.do(lambda space, now, i=b"%d" % host.number: space.allocate(i, now, now + 20))
        made.run(5)
    return made


def changed(message: bytes, chance: random.Random) -> bytes:
    data = bytearray(message)
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def test_what_an_insider_changes_or_repeats_changes_no_owner() -> None:
    """It is not in the council, and sends all that was ever said, bent and straight."""
    made, chance = busy(), random.Random(1)
    liar = next(host for host in made.hosts if host.number == 2)
    victims = made.hosts[:2]
    made.groups = [0, 0, 1]
    before = [(usable(host.space, host.now), in_use(host.space, host.now))
              for host in victims if host.space]  # fmt: skip
    said = made.said[:]
    for _ in range(3000):
        data = chance.choice(said)
        data = data if chance.random() < 0.2 else changed(data, chance)
        for host in victims:
            assert host.space is not None
            try:
                host.space.receive(liar.me, data, host.now)
            except WireError:
                continue
            host.settle()
    made.run(60)
    after = [(usable(host.space, host.now), in_use(host.space, host.now))
             for host in victims if host.space]  # fmt: skip
    for (_, held), (_, holds) in zip(before, after, strict=True):
        assert held == holds
    for host in victims:  # what the liar asked for it was given; nothing else changed hands
        assert host.space is not None
        owners = {host.space.owner(address) for address in range(RANGE.first, RANGE.last + 1)}
        assert owners <= {each.me for each in made.hosts}


@given(st.data())
@settings(max_examples=50)
def test_a_state_is_read_or_refused(data: st.DataObject) -> None:
    space = STATE.hosts[0].space
    assert space is not None
    assert space.council is not None
    state = bytearray(space.council.replica.ledger.dump())
    for _ in range(data.draw(st.integers(1, 4))):
        state[data.draw(st.integers(0, len(state) - 1))] = data.draw(st.integers(0, 255))
    try:
        load(bytes(state)).dump()
    except WireError:
        return


STATE = busy()
