"""Listeners: socket files, several at once, TLS with client certificates, systemd, browsers."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import warnings
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netkit.errors import Conflict, InvalidSpec
from runtime.api.server.listen_address import FdAddress, TlsOptions, UnixAddress
from runtime.api.server.listeners import open_all, passed_fds, tls_context
from runtime.tcp_address import TcpAddress
from tests.places import ROOT
from tests.unit.runtime.api.api_server import ApiServer

pytestmark = pytest.mark.slow

LOOPBACK = TcpAddress(host="127.0.0.1", port=0)
OFF = TlsOptions()


def listen(*addresses: UnixAddress | TcpAddress | FdAddress, **more: object) -> list[object]:
    environ = more.pop("environ", {})
    return list(open_all(addresses, tls=OFF, insecure=False, environ=environ, **more))  # type: ignore[arg-type]


def test_a_socket_file_is_0660_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.sock"
    old = os.umask(0)
    try:
        (one,) = open_all([UnixAddress(path=path)], tls=OFF, insecure=False, environ={})
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    one.close()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_group_is_the_one_asked_for_or_root(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    for group, gid in (("daemon", 1), ("no-such-group", 0)):
        (one,) = open_all([UnixAddress(path=path)], tls=OFF, insecure=False, environ={},
                          group=group)  # fmt: skip
        assert (path.stat().st_uid, path.stat().st_gid) == (0, gid)
        one.close()


def test_a_stale_socket_is_replaced_a_live_one_and_a_file_are_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    (one,) = open_all([UnixAddress(path=path)], tls=OFF, insecure=False, environ={})
    with pytest.raises(Conflict, match="another process does already"):
        open_all([UnixAddress(path=path)], tls=OFF, insecure=False, environ={})
    one.close()
    path.write_text("precious")
    with pytest.raises(Conflict, match="is not a socket"):
        open_all([UnixAddress(path=path)], tls=OFF, insecure=False, environ={})
    assert path.read_text() == "precious"


def test_closing_leaves_the_socket_of_a_successor_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    (old,) = open_all([UnixAddress(path=path)], tls=OFF, insecure=False, environ={})
    old.sock.close()
    (new,) = open_all([UnixAddress(path=path)], tls=OFF, insecure=False, environ={})
    old.close()
    assert path.exists()
    new.close()


def test_all_listeners_or_none(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"tcp://127.0.0.1:{port}: the port is in use"):
            open_all([UnixAddress(path=path), TcpAddress(host="127.0.0.1", port=port)], tls=OFF,
                     insecure=False, environ={})  # fmt: skip
    assert not path.exists()


def test_several_listeners_answer_at_once(tmp_path: Path) -> None:
    with ApiServer(tmp_path, LOOPBACK, UnixAddress(path=tmp_path / "two.sock")) as api:
        assert api.request("GET", "/_ping")[0] == 200
        assert ask(api.port(), "GET /_ping HTTP/1.0").startswith(b"HTTP/1.0 200")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(tmp_path / "two.sock"))
            sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            assert b"200 OK" in sock.recv(4096)


def ask(port: int, *lines: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b""
        while more := sock.recv(4096):
            data += more
        return data


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: localhost:2375"], b"200"),
        (["Host: 127.0.0.1:2375"], b"200"),
        (["Host: [::1]:2375"], b"200"),
        (["Host: evil.example:2375"], b"403"),
        (["Host: localhost:2375", "Origin: http://evil.example"], b"403"),
        (["Host: localhost:2375", "Origin: null"], b"403"),
    ],
)
def test_web_pages_cannot_drive_the_engine_over_tcp(
    tmp_path: Path, headers: list[str], status: bytes
) -> None:
    with ApiServer(tmp_path, LOOPBACK) as api:
        answer = ask(api.port(), "GET /_ping HTTP/1.0", *headers)
        assert answer.split()[1] == status
        assert api.request("GET", "/_ping", headers={"Origin": "http://x"})[0] == 200  # not there


def test_sockets_systemd_passes() -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "api:web"}
    assert passed_fds(environ, 7) == [(3, "api"), (4, "web")]
    assert passed_fds(environ, 8) == []
    assert passed_fds({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7) == [(3, "unknown")]
    with pytest.raises(InvalidSpec, match="no such socket was passed"):
        listen(FdAddress())


CHILD = """
import os, sys
from runtime.api.server.listen_address import FdAddress, TlsOptions
from runtime.api.server.listeners import open_all
os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "one:two"}
def names(which):
    found = open_all([FdAddress(which=which)], tls=TlsOptions(), insecure=False, environ=environ)
    names = [s.sock.getsockname() for s in found]
    [s.sock.detach() for s in found]
    return names
print(names(None)); print(names(4)); print(names("one"))
"""


def test_passed_sockets_are_chosen_by_number_and_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, socket.create_server(("127.0.0.1", 0)) as two:
        one.bind(str(tmp_path / "a.sock"))
        one.listen()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(one.fileno()), str(two.fileno())],
            pass_fds=(one.fileno(), two.fileno()), capture_output=True, text=True,
            cwd=ROOT,
        )  # fmt: skip
        a, b = str(tmp_path / "a.sock"), two.getsockname()
        assert done.stdout.splitlines() == [str([a, b]), str([b]), str([a])], done.stderr


class Certificates:
    """A CA with a server's and a client's certificate, and a stranger's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = self._make("ca", None)
        self.server = self._make("server", self.ca)
        self.client = self._make("cert", self.ca)
        self.stranger = self._make("stranger", self._make("other-ca", None))

    def _make(
        self, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
            )
        )
        cert = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(cert.public_bytes(pem))
        (self.folder / f"{name}-key.pem").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return cert, key

    @property
    def options(self) -> TlsOptions:
        return TlsOptions(
            verify=True, ca=self.folder / "ca.pem", cert=self.folder / "server.pem",
            key=self.folder / "server-key.pem",
        )  # fmt: skip

    def context(self, name: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if name:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}-key.pem")
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def test_tls_lets_in_who_has_a_certificate_of_our_ca(
    tmp_path: Path, certificates: Certificates
) -> None:
    with ApiServer(tmp_path, LOOPBACK, tls=certificates.options) as api:

        def ping(context: ssl.SSLContext) -> bytes:
            with (
                socket.create_connection(("127.0.0.1", api.port()), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
            ):
                sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return sock.recv(4096)

        assert b"200 OK" in ping(certificates.context("cert"))
        for name in (None, "stranger"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ping(certificates.context(name))
        old = certificates.context("cert")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ping(old)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_http_at_a_port_for_tls_is_told_so(
    tmp_path: Path, certificates: Certificates, method: str, pieces: int
) -> None:
    request = f"{method} /_ping HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with ApiServer(tmp_path, LOOPBACK, tls=certificates.options) as api:
        told = said_to(api.port(), request[:pieces], request[pieces:])
    assert told == (b"HTTP/1.0 400 Bad Request\r\n\r\n"
                    b"Client sent an HTTP request to an HTTPS server.\n")  # fmt: skip


def test_what_is_neither_http_nor_tls_gets_an_alert(
    tmp_path: Path, certificates: Certificates
) -> None:
    with ApiServer(tmp_path, LOOPBACK, tls=certificates.options) as api:
        assert b"HTTP" not in said_to(api.port(), b"SSH-2.0-x\r\n" * 3)


def said_to(port: int, *pieces: bytes) -> bytes:
    """What the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        answer = b""
        while more := sock.recv(4096):
            answer += more
        return answer


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs the docker CLI")
def test_the_docker_cli_runs_over_tls_with_half_close(
    tmp_path: Path, certificates: Certificates
) -> None:
    (tmp_path / "cert-key.pem").rename(tmp_path / "key.pem")
    with ApiServer(tmp_path, LOOPBACK, tls=certificates.options) as api:
        environ = {**os.environ, "DOCKER_HOST": f"tcp://127.0.0.1:{api.port()}",
                   "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path),
                   "DOCKER_CONFIG": str(tmp_path / "none")}  # fmt: skip
        data = os.urandom(1 << 20) * 16
        done = subprocess.run(
            ["docker", "run", "-i", "--rm", "busybox", "sh", "-c", "cat; sleep 0.2; exit 3"],
            input=data, capture_output=True, env=environ, timeout=60,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert done.stdout == data


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("no certificate")
    with pytest.raises(InvalidSpec, match="cannot use the TLS files"):
        tls_context(TlsOptions(enabled=True, cert=tmp_path / "c", key=tmp_path / "c"))
    assert tls_context(OFF) is None
