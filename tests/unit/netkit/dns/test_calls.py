"""Messages to the resolver are sent one after the other, and their answers read together."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.dns import control
from netkit.dns.control import Message
from netkit.dns.process import Dead, Process


@pytest.fixture
def ends() -> Iterator[tuple[Process, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = Process(Path("/nosuch"))
    process.sock = ours
    for end in (ours, theirs):
        end.settimeout(60)
    with theirs:
        yield process, theirs
        process.disconnect()


def _answering(theirs: socket.socket, *answers: Message) -> threading.Thread:
    """Read as many messages as there are answers, and only then send these."""

    def serve() -> None:
        asked = [control.receive(theirs)[0]["n"] for _ in answers]
        assert asked == [*range(len(answers))]
        for answer in answers:
            control.send(theirs, answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_several_messages_take_one_wait(ends: tuple[Process, socket.socket]) -> None:
    process, theirs = ends
    thread = _answering(theirs, {}, {"dropped": ["z"]})
    assert process.call_all([{"n": 0}, {"n": 1}]) == [{}, {"dropped": ["z"]}]
    thread.join(60)


def test_one_that_is_refused_ends_the_connection(ends: tuple[Process, socket.socket]) -> None:
    process, theirs = ends
    thread = _answering(theirs, {"error": "no such zone"}, {"dropped": []})
    with pytest.raises(Dead, match="no such zone"):
        process.call_all([{"n": 0}, {"n": 1}])
    assert process.sock is None
    thread.join(60)
