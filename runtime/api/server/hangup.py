"""Detect that a peer has closed a connection while nothing is read from it."""

from __future__ import annotations

import asyncio
import select


class Hangup:
    """Aborts a transport whose peer has closed: asyncio notices that only while it reads.

    An epoll with an empty event mask still reports HUP and ERR, and is itself pollable.  TCP
    reports no HUP until something is sent; TLS connections are not watched.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None

    def watch(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        if (
            self._epoll is not None
            or sock is None
            or sock.fileno() < 0
            or transport.get_extra_info("sslcontext") is not None
        ):
            return
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), 0)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), transport.abort)

    def end(self) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
