"""Create listening sockets, or receive them from systemd; remove socket files at the end."""

from __future__ import annotations

import errno
import grp
import os
import socket
import ssl
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from netkit.errors import Conflict, InvalidSpec, KernelError
from runtime.api.server.listen_address import (
    Address,
    FdAddress,
    TlsOptions,
    UnixAddress,
    check_exposure,
    check_remote,
)
from runtime.tcp_address import TcpAddress

GROUP = "netkit"  # members may use the API; without this group only root may
_MODE = 0o660
_BACKLOG = 512  # connections waiting to be accepted: `docker rm` of many names opens 50 at once
_FIRST_FD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A listening socket; `path` and `mark` identify its socket file, if it was created here."""

    name: str
    sock: socket.socket
    tls: bool
    path: Path | None = None
    mark: tuple[int, int] = (0, 0)

    def close(self) -> None:
        self.sock.close()
        if self.path is None:
            return
        try:
            if _mark(self.path) == self.mark:  # not another daemon's, created since
                self.path.unlink()
        except FileNotFoundError:
            pass


def _mark(path: Path) -> tuple[int, int]:
    """Identify a file by inode and time: inode numbers are reused."""
    found = path.lstat()
    return found.st_ino, found.st_mtime_ns


def open_all(
    addresses: Sequence[Address],
    *,
    tls: TlsOptions,
    insecure: bool,
    environ: Mapping[str, str],
    group: str = GROUP,
) -> list[Listener]:
    """Open all listeners or none.  `environ` has the LISTEN_* of systemd (sd_listen_fds(3))."""
    check_exposure(addresses, tls, insecure=insecure)
    opened: list[Listener] = []
    try:
        for address in addresses:
            match address:
                case UnixAddress():
                    opened.append(_unix(address, group))
                case TcpAddress():
                    opened += _tcp(address, tls)
                case FdAddress():
                    opened += _passed(address, tls, insecure, environ)
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def _unix(address: UnixAddress, group: str) -> Listener:
    path = address.path
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # bind creates the file with the socket's mode less the umask: never wider than this
        os.fchmod(sock.fileno(), _MODE)
        sock.bind(str(path))
        os.chmod(path, _MODE)
        if os.geteuid() == 0:
            os.chown(path, 0, _gid(group))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        mark = _mark(path)
    except OSError as error:
        sock.close()
        raise KernelError(f"cannot listen on {address}: {error}", errno=error.errno) from error
    return Listener(name=str(address), sock=sock, tls=False, path=path, mark=mark)


def _remove_stale(path: Path) -> None:
    """Remove a stale socket file.  Conflict if a process listens on it, or it is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"cannot listen on {path}: it exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        failed = probe.connect_ex(str(path))
    if failed not in {errno.ECONNREFUSED, errno.ENOENT}:
        raise Conflict(f"cannot listen on {path}: another process does already")
    path.unlink(missing_ok=True)


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return 0


def _tcp(address: TcpAddress, tls: TlsOptions) -> list[Listener]:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise InvalidSpec(f"cannot listen on {address}: {error}") from error
    listeners: list[Listener] = []
    try:
        for family, _, _, _, where in sorted(set(found)):
            sock = _bound(address, family, where)
            if sock is not None:
                listeners.append(Listener(name=str(address), sock=sock, tls=tls.on))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if not listeners:
        raise InvalidSpec(f"cannot listen on {address}: this host has no such address")
    return listeners


def _bound(
    address: TcpAddress,
    family: int,
    where: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
) -> socket.socket | None:
    """Bind and listen; None if this host does not have the address (a name may have several)."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 addresses of the name have sockets of their own: they must not conflict
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            return None
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"cannot listen on {address}: the port is in use") from error
        raise KernelError(f"cannot listen on {address}: {error}", errno=error.errno) from error
    return sock


def passed_fds(environ: Mapping[str, str], pid: int) -> list[tuple[int, str]]:
    """Numbers and names of the sockets systemd passed to process `pid`."""
    if environ.get("LISTEN_PID") != str(pid):
        return []
    count = environ.get("LISTEN_FDS", "0")
    given = environ.get("LISTEN_FDNAMES")
    names = given.split(":") if given else []
    number = int(count) if count.isdecimal() else 0
    return [(_FIRST_FD + n, names[n] if n < len(names) else "unknown") for n in range(number)]


def _passed(
    address: FdAddress, tls: TlsOptions, insecure: bool, environ: Mapping[str, str]
) -> list[Listener]:
    passed = passed_fds(environ, os.getpid())
    chosen = [fd for fd, name in passed if address.which in {None, fd, name}]
    if not chosen:
        raise InvalidSpec(
            f"cannot listen on {address}: no such socket was passed (LISTEN_FDS and LISTEN_PID of "
            "systemd); is this a unit with a .socket?"
        )
    return [_adopted(fd, address, tls, insecure) for fd in chosen]


def _adopted(fd: int, address: FdAddress, tls: TlsOptions, insecure: bool) -> Listener:
    os.set_inheritable(fd, False)
    try:
        sock = socket.socket(fileno=fd)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise InvalidSpec(f"{address}: descriptor {fd} is not a socket: {error}") from error
    if not listening:
        raise InvalidSpec(f"{address}: descriptor {fd} is not a listening socket")
    inet = sock.family in {socket.AF_INET, socket.AF_INET6}
    if inet and not ip_address(sock.getsockname()[0]).is_loopback:
        check_remote(f"{address} ({sock.getsockname()[0]})", tls, insecure=insecure)
    sock.setblocking(False)
    return Listener(name=str(address), sock=sock, tls=inet and tls.on)


def tls_context(tls: TlsOptions) -> ssl.SSLContext | None:
    """The server's side of TLS 1.2 and up; None if it is off."""
    tls.check()
    if not tls.on or tls.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
        if tls.verify:
            context.load_verify_locations(tls.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise InvalidSpec(
            f"cannot use the TLS files {tls.cert}, {tls.key}, {tls.ca}: {error}"
        ) from error
    return context
