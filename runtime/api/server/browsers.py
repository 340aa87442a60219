"""Refuse requests of web pages on TCP."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from aiohttp import hdrs, web

from netkit.errors import Forbidden


def refuse_browsers(request: web.Request) -> None:
    """Refuse requests of web pages on TCP, direct ones and by DNS rebinding.

    Browsers cannot open Unix sockets.  A page that uses rebinding sends its own name as Host.
    """
    transport = request.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == socket.AF_UNIX:
        return
    if hdrs.ORIGIN in request.headers:
        raise Forbidden("requests from web pages are refused: they carry an Origin header")
    if transport is not None and transport.get_extra_info("sslcontext") is not None:
        return  # the browser verified the server's name by TLS
    local = str(sock.getsockname()[0])
    if ip_address(local).is_loopback and not _local_name(request.headers.get(hdrs.HOST, "")):
        raise Forbidden(
            f"Host {request.headers.get(hdrs.HOST, '')!r} is not a name of this machine: use "
            "localhost or 127.0.0.1"
        )


def _local_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name in {"", "localhost", "docker", socket.gethostname().lower()}:
        return True
    if name.endswith(".localhost"):
        return True
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
