from __future__ import annotations

import socket

import pytest

from netkit.errors import InvalidSpec
from netkit.overlay.targets import parsed, resolved
from netkit.overlay.verbs import Peer


@pytest.mark.parametrize(("text", "host", "port"), [
    ("h1", "h1", 6783), ("192.0.2.7", "192.0.2.7", 6783), ("192.0.2.7:7000", "192.0.2.7", 7000),
    ("[2001:db8::7]:7000", "2001:db8::7", 7000), ("[2001:db8::7]", "2001:db8::7", 6783),
    ("2001:db8::7", "2001:db8::7", 6783),
])  # fmt: skip
def test_a_peer_is_read(text: str, host: str, port: int) -> None:
    assert parsed(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":7", "h1:", "h1:x", "h1:0", "h1:65536", "[::1]x", "[::1]:"])
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="use HOST or HOST:PORT"):
        parsed(text)


def test_an_address_is_not_looked_up() -> None:
    assert resolved("192.0.2.7:7000") == (Peer(host="192.0.2.7", port=7000, name="192.0.2.7:7000"),)


def test_a_name_that_no_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(InvalidSpec) as caught:
        resolved("h9")
    assert str(caught.value) == "there is no host 'h9': Temporary failure in name resolution"
