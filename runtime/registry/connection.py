"""Connections to registries: resolve, check the address, connect, TLS; all within a deadline."""

from __future__ import annotations

import errno
import os
import queue
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from netkit import threads
from netkit.errors import InvalidSpec
from runtime.cancellation import LOOK, Cancel
from runtime.registry.guard import Dropped, Guard

Allowed = Callable[[str], None]  # raises for an address that must not be contacted
_PORTS = {"http": 80, "https": 443}


class Origin(tuple[str, str, int]):
    """(scheme, host, port): where a URL leads; credentials are for one of them."""

    __slots__ = ()

    @classmethod
    def of(cls, url: str) -> Origin:
        """InvalidSpec for what is no http(s) URL with a host, or carries a password."""
        try:
            at = urlsplit(url)
            port = at.port
        except ValueError as error:
            raise InvalidSpec(f"the registry sends a malformed URL {url[:100]!r}") from error
        if at.scheme not in _PORTS or not at.hostname or at.username or at.password:
            raise InvalidSpec(f"the registry sends a URL that is refused: {url[:100]!r}")
        if any(ord(c) <= 32 or ord(c) >= 127 for c in url):
            raise InvalidSpec(f"the registry sends a malformed URL {url[:100]!r}")
        return cls((at.scheme, at.hostname, port or _PORTS[at.scheme]))

    @property
    def scheme(self) -> str:
        return self[0]

    @property
    def host(self) -> str:
        return self[1]

    @property
    def port(self) -> int:
        return self[2]


class Connection(HTTPConnection):
    """http.client over a guarded socket; `peer` is the address it is connected to."""

    def __init__(
        self,
        origin: Origin,
        context: ssl.SSLContext | None,
        cancel: Cancel,
        seconds: float,
        allowed: Allowed,
    ) -> None:
        super().__init__(origin.host, origin.port)
        self.origin = origin
        self.peer = ""
        self.guard: Guard
        self._context, self._cancel, self._allowed = context, cancel, allowed
        self._seconds = seconds

    def connect(self) -> None:
        """Dropped, with Go's words for the reason."""
        until = time.monotonic() + self._seconds
        host, port = self.origin.host, self.origin.port
        last: Exception | None = None
        for address in resolve(host, self._cancel, until):
            self._allowed(address)
            try:
                raw = _connected(address, port, self._cancel, until)
            except OSError as error:
                last = error
                continue
            self.peer, self.guard = address, Guard(raw, self._cancel, until)
            self.sock = self.guard
            if self._context is not None:
                self._secure(self._context, host)
            return
        if last is None:
            raise Dropped(f"dial tcp: lookup {host}: no such host")
        raise Dropped(_dial(address, port, last)) from last

    def _secure(self, context: ssl.SSLContext, host: str) -> None:
        try:
            self.guard.handshake(context, host)
        except ssl.SSLCertVerificationError as error:
            self.guard.close()
            raise Dropped(
                f"tls: failed to verify certificate: {error.verify_message}: put the CA into "
                f"/etc/netkit/certs.d/{host}:{self.origin.port}/ca.crt"
            ) from error
        except ssl.SSLError as error:
            self.guard.close()
            raise Dropped(f"tls: {error.reason or error}") from error
        except OSError as error:
            self.guard.close()
            raise Dropped(f"tls: {error.strerror or error}") from error
        except BaseException:
            self.guard.close()
            raise


def _dial(address: str, port: int, error: Exception) -> str:
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    if isinstance(error, TimeoutError):
        return f"dial tcp {shown}: i/o timeout"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"dial tcp {shown}: connect: {text.lower()}"


def resolve(host: str, cancel: Cancel, until: float) -> Iterator[str]:
    """Addresses of a host, in the order to try.  Dropped when there is no answer in time."""
    try:
        return iter([str(ip_address(host))])
    except ValueError:
        pass
    answers: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
        except (OSError, UnicodeError):
            answers.put([])

    threads.once("netkit-lookup", ask).start()  # getaddrinfo cannot be interrupted
    while True:
        cancel.check()
        left = until - time.monotonic()
        if left <= 0:
            raise Dropped(f"dial tcp: lookup {host}: i/o timeout")
        try:
            return iter(answers.get(timeout=min(left, LOOK)))
        except queue.Empty:
            continue


def _connected(address: str, port: int, cancel: Cancel, until: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        number = sock.connect_ex((address, port))
        if number not in {0, errno.EINPROGRESS}:
            raise OSError(number, os.strerror(number))
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(LOOK * 1000):
            cancel.check()
            if time.monotonic() > until:
                raise TimeoutError("i/o timeout")
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def tls(folder: Path, host: str, port: int, *, verify: bool) -> ssl.SSLContext:
    """The context for a registry: `folder`/HOST[:PORT] has *.crt (CAs), *.cert with *.key (ours).

    As Docker's /etc/docker/certs.d.  InvalidSpec for files that cannot be used.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for place in (folder / f"{host}:{port}", folder / host):
        if place.is_dir():
            _certificates(context, place)
            break
    return context


def _certificates(context: ssl.SSLContext, place: Path) -> None:
    for path in sorted(place.iterdir()):
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                key = path.with_suffix(".key")
                if not key.exists():
                    raise InvalidSpec(f"missing key {key.name} for client certificate {path}")
                context.load_cert_chain(path, key)
            elif path.suffix == ".key" and not path.with_suffix(".cert").exists():
                raise InvalidSpec(f"missing client certificate {path.stem}.cert for key {path}")
        except (ssl.SSLError, OSError) as error:
            raise InvalidSpec(f"cannot use {path}: {error}") from error
