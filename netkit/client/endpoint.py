"""Where the daemon is: -H, the environment, TLS files.  Opens the connection."""

from __future__ import annotations

import os

from netkit.client.failure import Failure, Unreachable
from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from typing import Final

    from netkit.client.secure import SecureSocket

DEFAULT_HOST = "unix:///run/netkit/netkit.sock"
PORT, TLS_PORT = 2375, 2376
CONNECT_SECONDS = 20.0
MAX_SOCKET_PATH = 107  # bytes; sockaddr_un


class Tls(Value):
    """Files in PEM; `verify` checks the daemon's certificate against `ca` and its name."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(
        self, *, ca: str = "", cert: str = "", key: str = "", verify: bool = True
    ) -> None:
        self.ca: Final = ca
        self.cert: Final = cert
        self.key: Final = key
        self.verify: Final = verify


class Endpoint(Value):
    """`path` for a unix socket, else `host` and `port`; `text` as the user would write it."""

    __slots__ = ("host", "path", "port", "text", "tls")

    def __init__(
        self, *, text: str, path: str = "", host: str = "", port: int = 0, tls: Tls | None = None
    ) -> None:
        self.text: Final = text
        self.path: Final = path
        self.host: Final = host
        self.port: Final = port
        self.tls: Final = tls

    def connect(self) -> socket.socket | SecureSocket:
        """Return a connected socket.  Unreachable has the reason, and what to do."""
        try:
            return self._open()
        except OSError as error:
            raise Unreachable(
                f"Cannot connect to the netkit daemon at {self.text}: {self._why(error)}"
            ) from error

    def _open(self) -> socket.socket | SecureSocket:
        import socket  # 5 ms, which --help and what is refused here do not need

        if self.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(CONNECT_SECONDS)
                sock.connect(self.path)
            except BaseException:
                sock.close()
                raise
        else:
            sock = socket.create_connection((self.host, self.port), CONNECT_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.tls is not None:
            secure = self._wrapped(sock, self.tls)
            secure.settimeout(None)
            return secure
        sock.settimeout(None)
        return sock

    def _wrapped(self, sock: socket.socket, tls: Tls) -> SecureSocket:
        import ssl

        from netkit.client.secure import SecureSocket

        context = ssl.create_default_context(cafile=tls.ca or None)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert or tls.key:
            context.load_cert_chain(tls.cert, tls.key)
        try:
            return SecureSocket(sock, context, self.host)
        except BaseException:
            sock.close()
            raise

    def _why(self, error: OSError) -> str:
        start = "start it with `netkitd`, or give its address with -H or NETKIT_HOST"
        if isinstance(error, FileNotFoundError):
            return f"there is no such socket; {start}"
        if isinstance(error, ConnectionRefusedError):
            return f"no process listens there; {start}"
        if isinstance(error, PermissionError):
            return "permission denied; become root, or a member of the group that owns the socket"
        return f"{error.strerror or error}; {start}"


def parse_host(text: str, tls: Tls | None) -> Endpoint:
    """unix://PATH, tcp://HOST[:PORT] or HOST:PORT.  Failure for anything else."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "tcp", scheme
    if scheme == "unix":
        path = rest or DEFAULT_HOST.removeprefix("unix://")
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise Failure(f"the path of a socket has at most {MAX_SOCKET_PATH} bytes: {path}")
        return Endpoint(text=f"unix://{path}", path=path)
    if scheme != "tcp":
        raise Failure(f"invalid host {text!r}: use unix://PATH or tcp://HOST:PORT")
    host, port = _host_port(rest.rstrip("/"), TLS_PORT if tls else PORT, text)
    shown = f"[{host}]" if ":" in host else host
    return Endpoint(text=f"tcp://{shown}:{port}", host=host, port=port, tls=tls)


def _host_port(rest: str, default: int, text: str) -> tuple[str, int]:
    host, bracket, tail = rest[1:].partition("]") if rest.startswith("[") else ("", "", "")
    if bracket:
        port = tail.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    if port and not (port.isdecimal() and 0 < int(port) < 65536):
        raise Failure(f"invalid host {text!r}: {port!r} is no port")
    return host or "localhost", int(port) if port else default


def tls_files(
    environ: Mapping[str, str], *, tls: bool, verify: bool | None, ca: str, cert: str, key: str
) -> Tls | None:
    """What --tls, --tlsverify, --tlscacert ... and the environment ask for; None is no TLS.

    Naming a CA asks for verification.  Files not named are ca.pem, cert.pem and key.pem of
    NETKIT_CERT_PATH or DOCKER_CERT_PATH
    (default ~/.docker), if they are there.
    """
    wanted = environ.get("NETKIT_TLS_VERIFY", environ.get("DOCKER_TLS_VERIFY", "")) != ""
    check = wanted or bool(ca) if verify is None else verify
    if not (tls or check or ca or cert or key):
        return None
    folder = environ.get("NETKIT_CERT_PATH") or environ.get("DOCKER_CERT_PATH")
    folder = folder or os.path.expanduser("~/.docker")

    def file(given: str, name: str) -> str:
        usual = os.path.join(folder, name)
        if given and not os.path.isfile(given):
            raise Failure(f"could not read the TLS file {given}: no such file")
        return given or (usual if os.path.isfile(usual) else "")

    return Tls(
        ca=file(ca, "ca.pem") if check else "",
        cert=file(cert, "cert.pem"),
        key=file(key, "key.pem"),
        verify=check,
    )
