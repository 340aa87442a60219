"""What fails in the resolver is answered at once, logged, and affects no other container."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from netkit.dns import control, core, server
from netkit.dns.client import Resolver
from netkit.dns.forward import Forwarder
from netkit.dns.server import Server
from netkit.dns.zones import ResolverView
from tests.unit.runtime.lifecycle.test_faults import ERRORS

SET = {"do": "set", "ns": "1:2", "zones": [], "links": {}, "upstreams": [], "forward": True}


@pytest.fixture
def resolver(tmp_path: Path) -> Iterator[tuple[Server, socket.socket]]:
    """A resolver, and the daemon's end of a connection to it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    served = Server(listener)
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon.settimeout(10)
    daemon.connect(str(tmp_path / "s"))
    turn(served)
    yield served, daemon
    daemon.close()
    served.close()


def turn(served: Server) -> None:
    for key, mask in served._selector.select(1):
        served._dispatch(key.data, mask)


def asked(served: Server, daemon: socket.socket, message: Any, fds: list[int]) -> Any:
    control.send(daemon, message, fds)
    turn(served)
    return control.receive(daemon)[0]


def test_more_sandboxes_than_a_message_has_room_for_are_listed(
    resolver: tuple[Server, socket.socket], tmp_path: Path
) -> None:
    served, daemon = resolver
    marks = {f"{n:064x}": f"4:{4026532000 + n}" for n in range(4000)}
    served._marks = dict(marks)
    served._fields = dict.fromkeys(marks, control.view_fields(ResolverView(zones=())))
    client = Resolver(tmp_path / "dns", None)  # type: ignore[arg-type]
    client._process = Mock(call=lambda message: asked(served, daemon, message, []))
    assert client._connect()
    assert client.known() == marks.keys()
    served._marks.clear()
    client.close(stop=False)


@pytest.mark.parametrize("make", ERRORS)
@pytest.mark.parametrize("at", [0, 1])
def test_a_sandbox_that_cannot_be_served_is_refused_at_once(
    resolver: tuple[Server, socket.socket], make: Any, at: int, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    served, daemon = resolver
    pair = [socket.socket(type=kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
    fds = [sock.fileno() for sock in pair]
    before = set(os.listdir("/proc/self/fd"))
    real, calls = served._selector.register, iter(range(9))

    def register(*args: Any) -> Any:
        if next(calls) == at:
            raise make()
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(served._selector, "register", register)
        answer = asked(served, daemon, {**SET, "id": "a"}, fds)
    assert str(make()) in answer["error"]
    assert str(make()) in caplog.text
    assert set(os.listdir("/proc/self/fd")) <= before
    assert asked(served, daemon, {"do": "list"}, [])["sandboxes"] == {}
    assert asked(served, daemon, {**SET, "id": "a"}, fds) == {"dropped": []}
    assert asked(served, daemon, {"do": "remove", "id": "a"}, []) == {"dropped": []}
    for sock in pair:
        sock.close()


@pytest.mark.parametrize("make", ERRORS)
def test_a_sandbox_that_cannot_be_closed_is_not_listed_any_more(
    resolver: tuple[Server, socket.socket], make: Any
) -> None:
    served, daemon = resolver
    pair = [socket.socket(type=kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
    asked(served, daemon, {**SET, "id": "a"}, [sock.fileno() for sock in pair])
    served._stations["a"].close = Mock(side_effect=make())  # type: ignore[method-assign]
    assert str(make()) in asked(served, daemon, {"do": "remove", "id": "a"}, [])["error"]
    assert asked(served, daemon, {"do": "list"}, [])["sandboxes"] == {}
    for sock in pair:
        sock.close()


@pytest.mark.parametrize("make", ERRORS)
def test_a_daemon_whose_message_cannot_be_read_does_not_wait(
    resolver: tuple[Server, socket.socket], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, daemon = resolver
    with monkeypatch.context() as patch:
        patch.setattr(server.control, "receive", Mock(side_effect=make()))
        control.send(daemon, {"do": "list"})
        turn(served)
    with pytest.raises((EOFError, ConnectionResetError)):
        control.receive(daemon)


@pytest.mark.parametrize("make", ERRORS)
def test_a_query_that_cannot_be_forwarded_is_answered_and_counts_no_more(make: Any) -> None:
    selector = Mock()
    selector.get_map.return_value = {}
    selector.register.side_effect = make()
    forwarder, answers = Forwarder(selector, lambda: 0.0), []
    query = bytes.fromhex("123401000001000000000000016100000100 01".replace(" ", ""))
    forwarder.ask("a", query, query[12:], ["127.0.0.1"], False, answers.append)
    assert [core.rcode(answer) for answer in answers] == [core.SERVFAIL]
    assert (forwarder._count["a"], forwarder._waiting) == (0, {})


def test_the_resolver_goes_on_when_a_query_cannot_expire(
    resolver: tuple[Server, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    served, daemon = resolver
    served._forwarder.expire = Mock(side_effect=RuntimeError("a defect"))  # type: ignore[method-assign]
    control.send(daemon, {"do": "quit"})
    served.run()
    assert control.receive(daemon)[0] == {}
    assert "a defect" in caplog.text


def test_a_resolver_of_an_earlier_daemon_has_ended_when_it_was_stopped(tmp_path: Path) -> None:
    """Else it removes the next one's socket, at the same path."""
    path = tmp_path / "control"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        daemon, _ = listener.accept()
        for answer in ({"sandboxes": {}}, {}):
            control.receive(daemon)
            control.send(daemon, answer)
        time.sleep(0.05)
        path.unlink()
        daemon.close()

    ends = threading.Thread(target=serve)
    ends.start()
    Resolver(tmp_path, Mock()).close(stop=True)
    there = path.exists()
    ends.join()
    listener.close()
    assert not there


@pytest.mark.parametrize("make", ERRORS)
def test_a_new_resolver_gets_all_sandboxes_but_the_one_that_fails(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Resolver, "_watching", lambda self: None)
    put: list[str] = []

    def one(id: str) -> None:
        if id == "a":
            raise make()
        put.append(id)

    resolver = Resolver(tmp_path, Mock())
    resolver._connect = Mock(return_value=True)  # type: ignore[method-assign]
    resolver._put = one  # type: ignore[method-assign]
    resolver._held = {id: ("/x", Mock()) for id in "abc"}
    resolver._alive()
    resolver.close(stop=False)
    assert put == ["b", "c"]
    assert str(make()) in caplog.text
