"""HTTP and hijacked streams over sockets of our own, plain and TLS."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netkit.cli.forward import forwarding
from netkit.cli.pump import Frames, Pump
from netkit.client.endpoint import Tls, parse_host
from netkit.client.engine import Engine, Hijacked
from netkit.client.failure import Exit, Failure, Refused, Unreachable
from netkit.client.http import ProtocolError, Response, Wire, send
from netkit.client.secure import SecureSocket
from tests.unit.netkit.cli.cli_fake_daemon import frame, running


def response(data: bytes, method: str = "GET", step: int = 1) -> Response:
    """A response that arrives in pieces of `step` bytes."""
    ours, theirs = socket.socketpair()

    def feed() -> None:
        with theirs:
            for at in range(0, len(data), step):
                theirs.sendall(data[at : at + step])

    threading.Thread(target=feed, daemon=True).start()
    return Response(Wire(ours), method)


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_bodies_of_every_framing(step: int) -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: 1\r\n\r\n"
    )
    assert (found := response(chunked, step=step)).read() == b"hello world"
    assert found.reusable
    assert (
        response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", step=step).read() == b"hello"
    )
    until_close = response(b"HTTP/1.1 200 OK\r\n\r\nall of it", step=step)
    assert until_close.read() == b"all of it"
    assert not until_close.reusable
    assert response(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", step).read() == b""


@pytest.mark.parametrize(
    "sent", [b"", b"5", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n"]
)
def test_a_daemon_that_ends_within_an_answer_has_answered(sent: bytes) -> None:
    found = response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sent)
    with pytest.raises(ProtocolError, match="in the middle of an answer"):
        found.read()
    with pytest.raises(ProtocolError, match="without an answer"):
        response(b"HTTP/1.1 2")


@pytest.mark.parametrize(
    "data",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"],
)  # fmt: skip
def test_what_is_no_whole_answer_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        response(data).read()


def test_lines_come_as_they_are_complete() -> None:
    found = response(b"HTTP/1.1 200 OK\r\n\r\n{1}\r\n\n{2}\n{3", step=2)
    assert list(found.lines()) == [b"{1}", b"{2}", b"{3"]


def test_an_upload_is_sent_in_chunks() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        send(Wire(ours), "PUT", "/x", {}, iter([b"abc", b"", b"de"]))
        assert theirs.recv(4096) == (
            b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
    ours.close()


def test_an_early_answer_to_an_upload_is_read() -> None:
    ours, theirs = socket.socketpair()

    def refuse() -> None:
        theirs.recv(10)
        theirs.sendall(b"HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\nno")
        theirs.shutdown(socket.SHUT_RD)  # and takes no more

    thread = threading.Thread(target=refuse)
    thread.start()
    wire = Wire(ours)
    send(wire, "PUT", "/x", {}, iter([b"x" * 1_000_000] * 5))
    found = Response(wire, "PUT")
    assert (found.status, found.read()) == (404, b"no")
    thread.join(10)
    ours.close()
    theirs.close()


def test_a_kept_connection_that_was_closed_is_opened_anew(tmp_path: Path) -> None:
    with running(tmp_path / "s") as daemon:
        engine = Engine(parse_host(f"unix://{tmp_path}/s", None))
        assert engine.get("/containers/json")
        for wire in engine._idle:
            wire.sock.shutdown(socket.SHUT_RDWR)
        assert engine.get("/containers/json")
        assert [each.method for each in daemon.record.asked] == ["HEAD", "GET", "GET"]
        with pytest.raises(Refused, match="No such container") as caught:
            engine.get("/containers/nosuch/json")
        assert caught.value.status == 404
        engine.close()


def test_no_daemon_is_an_error_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="there is no such socket; start it with `netkitd`"):
        Engine(parse_host(f"unix://{tmp_path}/none", None)).get("/info")
    (tmp_path / "stale").touch()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "dead"))
    stale.close()
    with pytest.raises(Unreachable, match="no process listens there"):
        Engine(parse_host(f"unix://{tmp_path}/dead", None)).get("/info")


# the pump


def test_frames_split_anywhere_reach_their_descriptors(tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as first, err.open("wb") as second:
        frames = Frames(first.fileno(), second.fileno())
        data = frame(1, b"one ") + frame(2, b"two") + frame(1, b"") + frame(1, b"three")
        for at in range(len(data)):
            frames.feed(data[at : at + 1])
    assert (out.read_bytes(), err.read_bytes()) == (b"one three", b"two")


def test_a_complaint_in_the_stream_is_an_error() -> None:
    with pytest.raises(Failure, match="disk full"):
        Frames(None, None).feed(frame(3, b"disk full"))


Pair = tuple[socket.socket | SecureSocket, socket.socket]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cert.pem and key.pem for localhost, signed by themselves."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, certificate: Path) -> Iterator[Pair]:
    """Our end and the daemon's."""
    ours, theirs = socket.socketpair()
    if request.param == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        wrapped: list[socket.socket] = []
        server = threading.Thread(
            target=lambda: wrapped.append(context.wrap_socket(theirs, server_side=True))
        )
        server.start()
        client = ssl.create_default_context(cafile=certificate / "cert.pem")
        ours = SecureSocket(ours, client, "localhost")
        server.join()
        theirs = wrapped[0]
    with closing(ours), theirs:
        yield ours, theirs


def pump(ours: socket.socket | SecureSocket, given: bytes, tmp_path: Path) -> bytes:
    """Return the output for the input `given`."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(given)
    with source.open("rb") as stdin, target.open("wb") as stdout:
        stream = Hijacked(Wire(ours), "")
        Pump(stream, tty=True, stdin=stdin.fileno(), stdout=stdout.fileno()).run()
    return target.read_bytes()


def served(theirs: socket.socket, serve: Callable[[socket.socket], None]) -> threading.Thread:
    def run() -> None:
        with theirs:
            serve(theirs)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_input_goes_out_while_output_comes_in(pair: Pair, tmp_path: Path) -> None:
    """The other side reads nothing until what it wrote has been taken: no deadlock."""
    ours, theirs = pair
    data = os.urandom(3_000_000)

    def echo(sock: socket.socket) -> None:
        sock.sendall(data)
        got = b""
        while len(got) < len(data):
            got += sock.recv(65536)
        sock.sendall(got[::-1])

    thread = served(theirs, echo)
    assert pump(ours, data, tmp_path) == data + data[::-1]
    thread.join(10)


def test_the_end_of_input_is_sent_and_output_goes_on(pair: Pair, tmp_path: Path) -> None:
    ours, theirs = pair

    def answer(sock: socket.socket) -> None:
        got = b""
        while more := sock.recv(100):
            got += more
        sock.sendall(b"after the end: " + got)

    thread = served(theirs, answer)
    assert pump(ours, b"typed", tmp_path) == b"after the end: typed"
    thread.join(10)


@pytest.mark.slow
def test_a_daemon_over_tls_is_verified(certificate: Path) -> None:
    listener = socket.create_server(("localhost", 0))
    port = listener.getsockname()[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def serve() -> None:
        for _ in range(2):
            plain, _address = listener.accept()
            try:
                with context.wrap_socket(plain, server_side=True) as sock:
                    sock.recv(4096)
                    sock.sendall(
                        b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 0\r\n\r\n"
                    )
                    sock.recv(4096)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            except ssl.SSLError:
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    good = Tls(ca=str(certificate / "cert.pem"))
    engine = Engine(parse_host(f"tcp://localhost:{port}", good))
    assert engine.get("/info") == {}
    engine.close()
    with pytest.raises(Unreachable, match=r"(?i)certificate"):
        Engine(parse_host(f"tcp://localhost:{port}", Tls())).get("/info")
    thread.join(10)
    listener.close()


def test_signals_are_forwarded_and_the_fourth_ends_us(tmp_path: Path) -> None:
    def press(times: int) -> None:
        for count in range(1, times + 1):
            os.kill(os.getpid(), signal.SIGINT)
            deadline = time.monotonic() + 30
            while len(daemon.record.rows()) < count:
                assert time.monotonic() < deadline
                time.sleep(0.005)

    before = signal.getsignal(signal.SIGINT)  # ignored, if we run in the background of a shell
    with running(tmp_path / "s") as daemon:
        engine = Engine(parse_host(f"unix://{tmp_path}/s", None))
        engine.negotiate()
        with forwarding(engine, "web"):
            press(3)
            with pytest.raises(Exit) as caught:
                os.kill(os.getpid(), signal.SIGINT)
        assert caught.value.code == 130
        kill = ["POST", "/containers/web/kill", {"signal": ["SIGINT"]}, None]
        assert daemon.record.rows() == [kill] * 3
        assert signal.getsignal(signal.SIGINT) is before
        engine.close()


@pytest.mark.parametrize("tcp", [True, False])
def test_one_that_hangs_up_on_plain_tcp_may_want_tls(tcp: bool, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as listener:
        listener.bind(("127.0.0.1", 0) if tcp else f"{tmp_path}/s")
        listener.listen()
        where = f"tcp://127.0.0.1:{listener.getsockname()[1]}" if tcp else f"unix://{tmp_path}/s"

        def hang_up() -> None:
            listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(Unreachable, match="broke off") as failure:
            Engine(parse_host(where, None)).get("/info")
    assert ("use --tlsverify" in str(failure.value)) == tcp


def test_one_that_says_it_wants_tls_is_quoted_with_what_to_do() -> None:
    said = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            for _ in range(2):  # the ping, the call
                with listener.accept()[0] as sock:
                    sock.recv(4096)
                    sock.sendall(said)

        threading.Thread(target=refuse, daemon=True).start()
        engine = Engine(parse_host(f"tcp://127.0.0.1:{listener.getsockname()[1]}", None))
        with pytest.raises(Refused, match=r"to an HTTPS server; use --tlsverify$"):
            engine.get("/info")
        engine.close()
