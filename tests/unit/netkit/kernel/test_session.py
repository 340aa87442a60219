"""Sockets of a call into the kernel, and those that are kept for the next one."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from netkit.errors import KernelError
from netkit.kernel import session
from netkit.kernel.netlink.codec import HEADER, MSG_ERROR, Netlink, Request, Tally
from netkit.kernel.session import IDLE, Session, SpareSockets
from netkit.model import HOST

opened: list[Socket] = []


class Socket:
    def __init__(self, protocol: int, tally: Tally) -> None:
        self.protocol = protocol
        self.sound, self.closed = True, False
        opened.append(self)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> SpareSockets:
    opened.clear()
    monkeypatch.setattr(session, "Netlink", Socket)
    return SpareSockets(Tally())


def test_sockets_of_the_own_namespace_are_opened_once(spare: SpareSockets) -> None:
    for _ in range(3):
        with Session(HOST, Tally(), spare) as one:
            assert one.netlink(HOST) is one.netlink(HOST)
            one.nftables()
    assert sorted(s.protocol for s in opened) == [socket.NETLINK_ROUTE, 12]
    assert not any(s.closed for s in opened)
    spare.close()
    assert all(s.closed for s in opened)


def test_without_spare_ones_nothing_is_kept(spare: SpareSockets) -> None:
    for _ in range(2):
        with Session(HOST, Tally()) as one:
            one.netlink(HOST)
            one.nftables()
    assert len(opened) == 4
    assert all(s.closed for s in opened)


def test_a_socket_is_not_used_again_after_an_error(spare: SpareSockets) -> None:
    one = Session(HOST, Tally(), spare)
    one.nftables()
    one.__exit__(KernelError, KernelError("late"), None)
    with Session(HOST, Tally(), spare) as one:
        one.nftables()
        opened[-1].sound = False  # an error that was caught
    assert [s.closed for s in opened] == [True, True]


def test_calls_at_the_same_time_have_a_socket_each_and_few_are_kept(spare: SpareSockets) -> None:
    taken = [spare.take(12) for _ in range(IDLE + 2)]
    assert len({id(s) for s in taken}) == IDLE + 2
    for one in taken:
        spare.give(12, one)
    assert [s.closed for s in opened] == [False] * IDLE + [True] * 2


class Answers:
    """Stands for a socket: each message of the kernel is received by itself."""

    def __init__(self, *messages: tuple[int, int, bytes]) -> None:
        self.left = [*messages]
        self.flags: list[int] = []

    def send(self, data: bytes) -> None:
        offset = 0
        while offset < len(data):
            length, _, flags, _, _ = HEADER.unpack_from(data, offset)
            self.flags.append(flags)
            offset += length

    def recv(self, _: int) -> bytes:
        if not self.left:
            raise BlockingIOError
        kind, sequence, payload = self.left.pop(0)
        return HEADER.pack(16 + len(payload), kind, 0, sequence, 0) + payload


def _netlink(answers: Answers) -> Netlink:
    made = Netlink.__new__(Netlink)
    made.tally, made.sound = Tally(), True
    made._sequence, made._socket = 0, answers  # type: ignore[assignment]
    return made


def test_a_question_is_answered_by_one_message_or_an_error() -> None:
    missing = struct.pack("=i", -errno.ENODEV) + bytes(16)
    answers = Answers((16, 7, b"late"), (16, 1, b"this"), (MSG_ERROR, 2, missing))
    found = _netlink(answers).get([Request(18, b"one."), Request(18, b"two.")])
    assert [(r.errno, r.messages) for r in found] == [(0, [b"this"]), (errno.ENODEV, [])]
    assert answers.left == []
    assert answers.flags == [1, 1]  # without NLM_F_ACK there is no second message


def test_a_socket_that_did_not_answer_is_not_sound() -> None:
    netlink = _netlink(Answers())
    with pytest.raises(KernelError):
        netlink.get([Request(18, b"one.")])
    assert not netlink.sound
