"""Check before joining that a server of the cluster accepts us: joining itself gives no reasons."""

from __future__ import annotations

import json
import socket
import ssl
import time
from typing import Any

from netkit.cluster.tls import FLAGS, Certificates, why
from netkit.errors import KernelError

PATIENCE = 5.0  # seconds for each of connecting, the handshake and the answer
ELECTION = 5.0  # seconds that one may take, which also follows the start of a server
POLL = 0.2  # seconds
BYTES = 65536
_ALERT = b"\x15"  # first byte of a TLS record with an alert; RFC 8446, 5.1


def _question(name: str) -> object:
    return {
        "id": 0, "method": "transact", "params": ["_Server", {
            "op": "select", "table": "Database", "where": [["name", "==", name]],
            "columns": ["connected", "leader", "index"],
        }],
    }  # fmt: skip


def greet(
    address: str, port: int, certificates: Certificates | None, *, name: str, begin: str
) -> None:
    """Raise KernelError with the reason where that server of the database `name` cannot let this
    host join; `begin` is the command that makes the first server."""
    at = f"the server at {address}:{port}"
    deadline = time.monotonic() + ELECTION
    try:
        while not (row := ask(address, port, certificates, name))["connected"]:
            if time.monotonic() > deadline:
                break
            time.sleep(POLL)
    except OSError as error:
        raise KernelError(
            f"{at} does not answer ({why(error)}): is there one ({begin}), and is the "
            "port open to this host?"
        ) from None
    if not row["connected"]:
        raise KernelError(
            f"{at} has no connection to most servers of its cluster: no host can join until "
            "they are back"
        )


def ask(
    address: str,
    port: int,
    certificates: Certificates | None,
    name: str,
    patience: float = PATIENCE,
) -> dict[str, Any]:
    """The server's own view of its database `name`: connected (to most servers), leader (is it?)
    and index, of the last entry of the log that it has.

    `patience`: seconds for each step.  OSError where it does not answer, KernelError where it
    answers, and is of no use.
    """
    at = f"the server at {address}:{port}"
    with socket.create_connection((address, port), patience) as sock:
        if certificates is None:
            rows = _plain(sock, at, name)
        else:
            rows = _sealed(sock, at, certificates, name)
    if not rows:
        raise KernelError(f"{at} has no database {name}: it is of no cluster of that kind")
    row: dict[str, Any] = rows[0]
    return row


def _plain(sock: socket.socket, at: str, name: str) -> Any:
    encrypted = KernelError(
        f"{at} wants TLS, and this netkitd was started without: give it {', '.join(FLAGS)}"
    )
    try:
        return _asked(sock, encrypted, name)
    except ConnectionError:
        raise encrypted from None


def _sealed(sock: socket.socket, at: str, certificates: Certificates, name: str) -> Any:
    try:
        tls = certificates.load().wrap_socket(sock)
    except ssl.SSLCertVerificationError as error:
        raise KernelError(
            f"{at} shows a certificate that {FLAGS[0]} {certificates.ca} does not vouch for: "
            f"{why(error)}"
        ) from None
    except (ssl.SSLError, ConnectionError) as error:
        raise KernelError(
            f"{at} does not speak TLS as we do ({why(error)}): if its cluster is without, start "
            f"netkitd without {FLAGS[0]}"
        ) from None
    refused = KernelError(
        f"{at} does not accept our certificate {certificates.cert}: is it signed by the CA of "
        "that cluster?"
    )
    with tls:
        try:
            return _asked(tls, refused, name)
        except (ssl.SSLError, ConnectionError) as error:
            raise refused from error


def _asked(sock: socket.socket, hung_up: KernelError, name: str) -> Any:
    """Return the rows of the answer."""
    sock.sendall(json.dumps(_question(name)).encode())
    received = b""
    while True:
        more = sock.recv(BYTES)
        received += more
        if not more or received.startswith(_ALERT):
            raise hung_up
        try:
            answer = json.loads(received)
        except ValueError:
            continue
        try:
            return answer["result"][0]["rows"]
        except (KeyError, IndexError, TypeError):  # it knows no such thing
            return []
