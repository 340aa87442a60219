"""Open the sockets for containers' queries: 127.0.0.11:53 in the namespace of each.

Where another engine's resolver is at that address, 127.0.0.12.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from netkit.dns.control import ADDRESS, PORT
from netkit.errors import Conflict, KernelError

OpenSocket = Callable[[str, int, int], socket.socket]  # namespace's path, family, type


def listening(
    ns_path: str, open_socket: OpenSocket, address: str = ADDRESS
) -> list[socket.socket]:
    """Open UDP and TCP in the namespace at a path.  Conflict if the port is taken, KernelError."""
    sockets: list[socket.socket] = []
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock = open_socket(ns_path, socket.AF_INET, kind)
            sockets.append(sock)
            # After a crash of the resolver connections of its TCP port linger.  And a name
            # server inside that sets this, too, can have port 53 of all other addresses.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, PORT))
        sockets[1].listen(64)
    except OSError as e:
        for sock in sockets:
            sock.close()
        if e.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {PORT} at {address} in namespace {ns_path} is taken, and containers "
                "on user-defined networks need it for names"
            ) from e
        raise KernelError(
            f"cannot listen at {address}:{PORT} in namespace {ns_path}: {e.strerror}",
            errno=e.errno,
        ) from e
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets
