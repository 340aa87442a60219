"""Certificates of a cluster: what is wrong with them is reported at the start."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ovs.stream
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from netkit.cluster import greeting, streams
from netkit.cluster.greeting import greet
from netkit.cluster.schema import NAME
from netkit.cluster.tls import Certificates
from netkit.errors import InvalidSpec, KernelError
from runtime.daemon.config_load import load
from tests.authority import Authority, plain


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "others")


def test_good_certificates_are_good(ours: Authority) -> None:
    ours.host("h1").check()
    ours.host("plain", uses=()).check()  # as ovs-pki makes them


def test_bad_certificates_are_refused_with_the_reason(ours: Authority, foreign: Authority) -> None:
    good = ours.host("good")
    locked = ours.folder / "locked.pem"
    locked.write_bytes(plain(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    for bad, words in (
        (replace(good, cert=foreign.host("x").cert), "--cluster-tls-cert .*x.pem with"),
        (replace(good, ca=foreign.ca), "of no use with --cluster-tls-ca .*others/ca.pem: "),
        (replace(good, key=foreign.host("y").key), "key values mismatch"),
        (replace(good, key=locked), "the key is encrypted"),
        (replace(good, key=good.cert), "--cluster-tls-key .*good.pem: "),
        (replace(good, ca=good.key), "--cluster-tls-ca .*good-key.pem: not a certificate in PEM"),
        (replace(good, ca=Path("/nowhere")), "--cluster-tls-ca /nowhere: No such file"),
        (ours.host("old", days=-1), "certificate has expired"),
        (ours.host("half", uses=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "purpose"),
        (ours.host("other half", uses=(ExtendedKeyUsageOID.SERVER_AUTH,)), "purpose"),
    ):
        with pytest.raises(InvalidSpec, match=words):
            bad.check()


def test_a_library_without_ssl_is_reported(
    ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(ovs.stream.Stream._SOCKET_METHODS, "ssl:")
    with pytest.raises(KernelError, match="library of this Python is without SSL"):
        streams.enable(ours.host("h1"))


def test_files_of_the_daemon_are_absolute() -> None:
    words = ["--cluster-tls-ca=a", "--cluster-tls-cert=b", "--cluster-tls-key=/c", "--cluster"]
    found = load([*words, "ovsdb:ssl:10.0.0.1:6640"], read=lambda _: "{}")
    assert found.certificates == Certificates(
        ca=Path("a").absolute(), cert=Path("b").absolute(), key=Path("/c")
    )
    assert found.cluster_servers == "ssl:10.0.0.1:6640"


# before joining

Answer = Callable[[socket.socket], None]


@contextmanager
def server(answer: Answer) -> Iterator[int]:
    """Answer one connection; return the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                sock, _ = listening.accept()
                with sock:
                    answer(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
    thread.join()


def answering(*rows: dict[str, Any]) -> Answer:
    def answer(sock: socket.socket) -> None:
        assert json.loads(sock.recv(4096))["method"] == "transact"
        sock.sendall(json.dumps({"id": 0, "result": [{"rows": rows}]}).encode())

    return answer


def behind_tls(files: Certificates, answer: Answer) -> Answer:
    def shaken(sock: socket.socket) -> None:
        with suppress(ssl.SSLError):
            answer(files.load(ssl.PROTOCOL_TLS_SERVER).wrap_socket(sock, server_side=True))

    return shaken


def hangs_up(sock: socket.socket) -> None:
    sock.recv(4096)


def complains(sock: socket.socket) -> None:
    hangs_up(sock)
    sock.sendall(b'{"error": "not JSON"}')


def test_servers_that_let_us_join(ours: Authority) -> None:
    member = answering({"connected": True})
    with server(member) as port:
        greet("127.0.0.1", port, None, name=NAME, begin="init")
    with server(behind_tls(ours.host("h1"), member)) as port:
        greet("127.0.0.1", port, ours.host("h2"), name=NAME, begin="init")


def test_unusable_servers_are_distinguished(
    ours: Authority, foreign: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greeting, "ELECTION", 0.0)  # it is asked once
    ask, files, theirs = answering({"connected": True}), ours.host("h1"), foreign.host("h1")
    ours_but_not_theirs = replace(
        files, ca=foreign.ca
    )  # it lets in foreign hosts, and is itself ours
    for answer, given, words in (
        (answering(), None, "has no database Netkit"),
        (answering({"connected": False}), None, "has no connection to most servers of its cluster"),
        (complains, None, "has no database Netkit"),
        (behind_tls(files, ask), None, "wants TLS"),
        (hangs_up, None, "wants TLS"),
        (hangs_up, files, "does not speak TLS as we do .* start netkitd without"),
        (complains, files, "does not speak TLS as we do"),
        (behind_tls(theirs, ask), files, "--cluster-tls-ca .*ours/ca.pem does not vouch for"),
        (behind_tls(ours_but_not_theirs, ask), files, "does not accept our certificate"),
    ):
        with server(answer) as port, pytest.raises(KernelError, match=words):
            greet("127.0.0.1", port, given, name=NAME, begin="init")


def test_an_absent_server_is_reported_as_well() -> None:
    with server(hangs_up) as port:
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(KernelError, match=r"does not answer \(Connection refused\)"):
        greet("127.0.0.1", port, None, name=NAME, begin="init")
