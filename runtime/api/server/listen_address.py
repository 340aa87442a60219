"""Parse and check `-H` and the TLS options.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netkit.errors import InvalidSpec
from runtime.numbers import natural
from runtime.tcp_address import TcpAddress

DEFAULT_PORT = 2375
DEFAULT_TLS_PORT = 2376
_FIRST_FD = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_LONGEST_PATH = 107  # bytes of sun_path, less its end (unix(7))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FdAddress:
    """Sockets from systemd: one by number (3 and up) or name, or all of them."""

    which: int | str | None = None

    def __str__(self) -> str:
        return f"fd://{'' if self.which is None else self.which}"


Address = UnixAddress | TcpAddress | FdAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """--tls, --tlsverify, --tlscacert, --tlscert, --tlskey, as Docker names them."""

    enabled: bool = False
    verify: bool = False  # clients must show a certificate signed by `ca`
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def on(self) -> bool:
        return self.enabled or self.verify

    def check(self) -> None:
        """InvalidSpec names what is missing."""
        if not self.on:
            return
        if self.cert is None or self.key is None:
            raise InvalidSpec("TLS needs --tlscert and --tlskey, the server's certificate and key")
        if self.verify and self.ca is None:
            raise InvalidSpec(
                "--tlsverify needs --tlscacert, the CA that signs client certificates"
            )


def parse(text: str, *, default: Path, tls: bool = False) -> Address:
    """Parse `-H`: unix://PATH, tcp://HOST:PORT, HOST:PORT, fd://[N|NAME]; "" is `default`."""
    text = text.strip()
    scheme, sep, rest = text.partition("://")
    if not sep:
        scheme, rest = ("unix", "") if not text else ("tcp", text)
    match scheme:
        case "unix":
            return _unix(rest or str(default), text)
        case "tcp":
            return _tcp(rest, text, DEFAULT_TLS_PORT if tls else DEFAULT_PORT)
        case "fd":
            return _fd(rest, text)
    raise InvalidSpec(f"invalid host {text!r}: use unix://PATH, tcp://HOST:PORT or fd://")


def _unix(path: str, text: str) -> UnixAddress:
    if not path.startswith("/"):
        raise InvalidSpec(f"invalid host {text!r}: the path of a unix socket must be absolute")
    if len(path.encode()) > _LONGEST_PATH:
        raise InvalidSpec(
            f"invalid host {text!r}: the path of a unix socket has at most {_LONGEST_PATH} bytes"
        )
    return UnixAddress(path=Path(path))


def _tcp(rest: str, text: str, default_port: int) -> TcpAddress:
    if "/" in rest:
        raise InvalidSpec(f"invalid host {text!r}: no path may follow HOST:PORT")
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise InvalidSpec(f"invalid host {text!r}: write an IPv6 address as [::1]:2375")
        port = tail[1:]
    elif rest.count(":") > 1:
        raise InvalidSpec(f"invalid host {text!r}: write an IPv6 address as [::1]:2375")
    else:
        host, _, port = rest.partition(":")
    if not port:
        number = default_port
    elif (given := natural(port, 65535)) is not None:
        number = given
    else:
        raise InvalidSpec(f"invalid host {text!r}: the port must be a number up to 65535")
    return TcpAddress(host=host or "127.0.0.1", port=number)


def _fd(rest: str, text: str) -> FdAddress:
    if rest in {"", "*"}:
        return FdAddress()
    if (number := natural(rest)) is None:
        return FdAddress(which=rest)
    if number < _FIRST_FD:
        raise InvalidSpec(f"invalid host {text!r}: descriptors from systemd begin at {_FIRST_FD}")
    return FdAddress(which=number)


def check_exposure(addresses: Sequence[Address], tls: TlsOptions, *, insecure: bool) -> None:
    """Refuse plain TCP on addresses other than loopback: API access is root access."""
    tls.check()
    for address in addresses:
        if isinstance(address, TcpAddress) and not address.loopback:
            check_remote(str(address), tls, insecure=insecure)


def open_to_all(addresses: Sequence[Address], tls: TlsOptions) -> list[str]:
    """A warning for each address at which the network reaches the API without a certificate."""
    if tls.on and tls.verify:
        return []
    what = "without client certificates" if tls.on else "without encryption"
    return [
        f"API is accessible on {address} {what}: access to it is root access to this host"
        for address in addresses
        if isinstance(address, TcpAddress) and not address.loopback
    ]


def check_remote(name: str, tls: TlsOptions, *, insecure: bool) -> None:
    """Require client certificates on a listener, or `insecure`: API access is root access."""
    if insecure or (tls.on and tls.verify):
        return
    raise InvalidSpec(
        f"refusing to listen on {name} without client certificates: access to it is root access "
        "to this host; use --tlsverify with --tlscacert, --tlscert and --tlskey, listen on "
        "127.0.0.1, or insist with --insecure-tcp"
    )
