"""One call's datagrams, gathered and scattered: over the loopback interface."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from netkit.overlay.sleeve import framing
from netkit.overlay.sleeve.framing import HEAD, Cut
from netkit.overlay.sleeve.vectors import LAYOUTS, UDP_GRO, Area, Gather, Scatter, Train

HOST = "127.0.0.1"


@dataclass
class Wire:
    sender: socket.socket
    receiver: socket.socket

    @property
    def port(self) -> int:
        return int(self.receiver.getsockname()[1])


@pytest.fixture
def wire() -> Iterator[Wire]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.bind((HOST, 0))
        yield Wire(sender, receiver)


def data(length: int) -> bytes:
    return bytes((n * 7 + n // 256) % 256 for n in range(length))


def sent(wire: Wire, size: int, length: int, counter: int = 5) -> int:
    """How many pieces."""
    area = Area(70_000)
    area.view[:length] = data(length)
    gather = Gather(area, Cut(size), 77, HOST, wire.port)
    gather.prepare(counter, 0, length)
    assert gather.send(wire.sender.fileno()) == 0
    return gather.pieces


def taken(scatter: Scatter, wire: Wire, length: int, pieces: int) -> None:
    """One call has it all, in one piece, with all headers."""
    size, each = scatter.receive(wire.receiver.fileno())
    assert size == length + HEAD * pieces
    assert -(-size // each) == pieces
    assert bytes(scatter.payload[:length]) == data(length)
    heads = [framing.read(scatter.headers, HEAD * n) for n in range(pieces)]
    assert heads[0] == (framing.DATA, 0, 0, pieces, 77, 5)
    assert heads[1:] == [(framing.DATA, 0, n, 0, 77, 5) for n in range(1, pieces)]


LENGTHS = [1, 50, 1455, 1456, 1457, 2912, 2913, 30_000, 64_064]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_payload_comes_as_it_was_sent(wire: Wire, length: int) -> None:
    taken(Scatter(1472), wire, length, sent(wire, 1472, length))


@pytest.mark.parametrize("size", [552, 1252, 1365, 1472, 8972, 30_000])
@pytest.mark.parametrize("laid_out", [552, 1472, 8972])
def test_datagrams_of_another_size_than_expected_are_moved(
    wire: Wire, size: int, laid_out: int
) -> None:
    scatter = Scatter(laid_out)
    most = Cut(size).capacity
    for length in (most, min(40_000, most), min(size - HEAD + 1, most), 3):
        taken(scatter, wire, length, sent(wire, size, length))


def test_sizes_may_take_turns(wire: Wire) -> None:
    scatter = Scatter(1472)
    for number in range(3 * LAYOUTS):
        size = 600 + number % (LAYOUTS + 3) * 50
        taken(scatter, wire, 5000, sent(wire, size, 5000))


def test_a_gather_is_used_again(wire: Wire) -> None:
    area = Area(70_000)
    area.view[:] = data(70_000)
    gather, scatter = Gather(area, Cut(1472), 77, HOST, wire.port), Scatter(1472)
    for counter, length in enumerate([64_064, 3, 1457, 20_000, 1456, 64_064], 1):
        gather.prepare(counter, counter % 2, length)
        assert gather.send(wire.sender.fileno()) == 0
        size, _ = scatter.receive(wire.receiver.fileno())
        assert size == length + HEAD * gather.pieces
        heads = [framing.read(scatter.headers, HEAD * n) for n in range(gather.pieces)]
        assert {head.counter for head in heads} == {counter}
        assert heads[0].flags == counter % 2
        assert bytes(scatter.payload[:length]) == data(length)


def test_datagrams_one_after_the_other_are_a_train(wire: Wire) -> None:
    area = Area(10_000)
    area.view[:] = data(10_000)
    train = Train(area, HOST, wire.port)
    for size, each in ((4500, 1000), (900, 1000), (1000, 1000)):
        assert train.send(wire.sender.fileno(), size, each) == 0
        got = b""
        wire.receiver.settimeout(5)
        while len(got) < size:
            got += wire.receiver.recv(65_536)
        assert got == data(size)


def test_who_sent_it_is_known(wire: Wire) -> None:
    scatter = Scatter(1472)
    sent(wire, 1472, 10)
    scatter.receive(wire.receiver.fileno())
    assert scatter.sender[4:8] == socket.inet_aton(HOST)


def test_an_error_is_the_systems(wire: Wire) -> None:
    wire.receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        Scatter(1472).receive(wire.receiver.fileno())
    gather = Gather(Area(100), Cut(1472), 1, HOST, wire.port)
    gather.prepare(1, 0, 10)
    assert gather.send(-1) != 0


def test_moving_costs_little(wire: Wire) -> None:
    """It happens whenever two peers with other path MTUs take turns."""
    scatter = Scatter(1472)
    sent(wire, 1252, 64_000)
    size, _ = scatter.receive(wire.receiver.fileno())
    begin = time.process_time()
    for _ in range(20):
        scatter._move(size, 1472)
        scatter._move(size, 1252)
    assert time.process_time() - begin < 0.1
