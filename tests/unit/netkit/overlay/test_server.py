"""Clients of the control socket, each with its own answers, whatever the others do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netkit.errors import Conflict, KernelError, NetkitError, NoRoom, NotFound
from netkit.overlay import server as module
from netkit.overlay import verbs
from netkit.overlay.client import ABSENT, Channel
from netkit.overlay.loop import Loop, now
from netkit.overlay.packets import packets
from netkit.overlay.server import Client, Server
from netkit.overlay.verbs import Call, Done, Notification, Refused
from netkit.testing.waiting import readable


class Answering:
    """A process that answers in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.loop = Loop()
        self.server = Server(path, self.loop, self.act)
        self.subscribed: list[Client] = []
        self.over = False
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.over:
            self.loop.turn(now() + 0.02)

    def act(self, client: Client, call: Call) -> None:
        match call.verb:
            case verbs.Subscribe():
                client.send(Done(call.number))
                client.send(Notification({"event": "hello"}))
            case verbs.RmPeer():
                client.send(Refused(call.number, "NoRoom", call.verb.peer))
            case verbs.Claim():
                client.send(Refused(call.number, "Foreign?", "what"))
            case verbs.Stop():
                client.close()
            case verbs.Endpoints():
                client.send(Notification({"event": "before"}))
                client.send(Done(call.number, [e.id for e in call.verb.endpoints]))
            case _:
                client.send(Done(call.number, "x" * 300_000))


@contextmanager
def answering(path: Path) -> Iterator[Answering]:
    made = Answering(path)
    made.thread.start()
    try:
        yield made
    finally:
        made.over = True
        made.thread.join()
        made.server.close()
        made.loop.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


def test_a_call_is_answered_with_its_result_however_long(path: Path) -> None:
    with answering(path), Channel(path) as one, Channel(path) as other:
        assert one.call(verbs.Status()) == "x" * 300_000
        many = [verbs.Endpoint(id=f"{n:0200}", network="n", mac="02:00:00:00:00:01")
                for n in range(2000)]  # fmt: skip
        assert other.call(verbs.Endpoints(endpoints=tuple(many))) == [e.id for e in many]
        assert one.pid == os.getpid()


def test_an_error_is_of_the_class_that_was_meant(path: Path) -> None:
    with answering(path), Channel(path) as channel:
        with pytest.raises(NoRoom, match=r"^h7$"):
            channel.call(verbs.RmPeer(peer="h7"))
        with pytest.raises(NetkitError, match=r"^what$"):
            channel.call(verbs.Claim(ident="i", address="10.32.0.1"))


def test_who_subscribes_hears_also_what_came_before_an_answer(path: Path) -> None:
    with answering(path), Channel(path) as channel:
        channel.call(verbs.Endpoints(endpoints=()))
        assert [each["event"] for each in channel.events(0.05)] == ["before", "hello"]


def test_what_has_happened_is_there_without_waiting(path: Path) -> None:
    with answering(path) as process, Channel(path) as channel:
        assert channel.waiting() == []
        channel.call(verbs.Subscribe())
        assert readable(channel, 20)
        assert channel.waiting() == [{"event": "hello"}]
        channel.call(verbs.Endpoints(endpoints=()))
        assert channel.waiting() == [{"event": "before"}]
        assert channel.waiting() == []
        with pytest.raises(KernelError):
            channel.call(verbs.Stop())
        assert channel.closed
        assert process.thread.is_alive()


def test_without_a_process_one_line_says_what_to_do(path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Channel(path)
    assert str(caught.value) == ABSENT


def test_a_process_that_ends_is_an_error(path: Path) -> None:
    with (
        answering(path),
        Channel(path) as channel,
        pytest.raises(KernelError, match="ended before it answered: see `netkit weave status`"),
    ):
        channel.call(verbs.Stop())


def test_a_process_that_is_killed_with_a_question_before_it_is_an_error(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        with Channel(path) as channel:
            process, _ = listening.accept()

            def die() -> None:
                process.recv(1, socket.MSG_PEEK)
                process.close()  # with an unread packet: ECONNRESET

            killing = threading.Thread(target=die)
            killing.start()
            with pytest.raises(KernelError, match="ended before it answered"):
                channel.call(verbs.Held())
            killing.join()


def test_only_its_owner_may_ask(path: Path) -> None:
    with answering(path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


@pytest.mark.parametrize("garbage", [b"\2", b"\1", b"", b"\0" + bytes(70_000)])
def test_who_speaks_another_protocol_is_hung_up_on(path: Path, garbage: bytes) -> None:
    with answering(path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.settimeout(5)
        raw.connect(str(path))
        raw.send(garbage)
        assert raw.recv(100) == b""
        with Channel(path) as other:
            assert other.call(verbs.Status())


def test_what_cannot_be_read_is_refused_and_the_client_stays(path: Path) -> None:
    with answering(path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.settimeout(5)
        raw.connect(str(path))
        for _ in range(2):
            raw.send(b"\0nonsense")
            refused = verbs.answer(raw.recv(10_000)[1:])
            assert isinstance(refused, Refused)
            assert refused.kind == "InvalidSpec"


def test_who_does_not_read_is_dropped_and_delays_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEHIND", 1 << 20)
    with answering(path) as process, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(str(path))
        raw.settimeout(0.5)
        (packet,) = packets(verbs.encode(Call(1, verbs.Status())))
        try:
            for _ in range(10):
                raw.send(packet)
        except OSError:
            pass
        with Channel(path) as other:
            assert other.call(verbs.Status())
            assert len(process.server._clients) == 1


def test_connections_have_a_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENTS", 2)
    with answering(path), Channel(path) as one, Channel(path) as two:
        assert one.call(verbs.Status())
        assert two.call(verbs.Status())
        with Channel(path) as three, pytest.raises((KernelError, Conflict)):
            three.call(verbs.Status())
