"""Both filters drop everything, and only on the socket they were given to."""

from __future__ import annotations

import socket

import pytest

from netkit.kernel import port_socket


@pytest.fixture(params=["ebpf", "classic"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "classic":
        monkeypatch.setattr(port_socket, "_program", lambda: None)
    elif port_socket._program() is None:
        pytest.skip("the kernel does not let us load an eBPF program (bpf(2): needs CAP_BPF)")
    return str(request.param)


def test_no_datagram_is_received_and_other_sockets_receive_theirs(way: str) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as open,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        port_socket.drop_all_packets(closed)
        for s in (closed, open):
            s.bind(("127.0.0.1", 0))
            s.settimeout(0.05)
            sender.sendto(b"hello", s.getsockname())
        assert open.recv(100) == b"hello"
        with pytest.raises(TimeoutError):
            closed.recv(100)


def test_no_client_is_accepted_and_none_gets_an_answer(way: str) -> None:
    with socket.socket() as listening, socket.socket() as client:
        port_socket.drop_all_packets(listening)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.connect(listening.getsockname())
