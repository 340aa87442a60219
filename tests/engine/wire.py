"""Private network namespaces around an engine: its host, a neighbour on its LAN, the world behind.

engine host 10.77.0.1/24 ---- 10.77.0.2/24 neighbour, also 203.0.113.9/32 "the world"
              eth0                 eth0         (TEST-NET-3; nothing leaves the machine)
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass

HOST = "10.77.0.1"
NEIGHBOUR = "10.77.0.2"
WORLD = "203.0.113.9"

# Answers every request with the address the client is seen as.
_ECHO = """
import http.server, socketserver, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.client_address[0] + "\\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask the DNS for our name
Server((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
"""


# A name server that knows one name, and says so of no other.
KNOWN_NAME, KNOWN_ADDRESS = "www.beyond.test", "203.0.113.80"
_NAMES = """
import sys
from dnslib import A, QTYPE, RCODE, RR
from dnslib.server import BaseResolver, DNSLogger, DNSServer
class One(BaseResolver):
    def resolve(self, request, handler):
        reply = request.reply()
        name = str(request.q.qname).rstrip(".").lower()
        if name != sys.argv[2]:
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(sys.argv[3]), ttl=60))
        return reply
DNSServer(One(), port=53, address=sys.argv[1], logger=DNSLogger("-")).start()
"""


SLOW = 120  # s: links of one namespace wait while others are removed, anywhere on the machine


def ip(*args: str) -> str:
    try:
        return subprocess.run(
            ["ip", *args], check=True, capture_output=True, text=True, timeout=SLOW
        ).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr.strip())
        raise


def inside(netns: str, *argv: str) -> list[str]:
    """Return argv to run in a named namespace, with our mounts (unlike `ip netns exec`)."""
    return ["nsenter", f"--net=/run/netns/{netns}", "--", *argv]


def run(netns: str, *argv: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        inside(netns, *argv), capture_output=True, text=True, timeout=timeout, check=False
    )


@dataclass(frozen=True)
class Wire:
    host: str  # name of the namespace the engine lives in
    neighbour: str  # name of the namespace of the LAN neighbour

    @classmethod
    def lay(cls, prefix: str = "nk-t") -> Wire:
        """Make both namespaces and the cable.  Names are new each time."""
        name = f"{prefix}-{secrets.token_hex(3)}"
        wire = cls(host=name, neighbour=f"{name}-lan")
        try:
            for ns in (wire.host, wire.neighbour):
                ip("netns", "add", ns)
                ip("-n", ns, "link", "set", "lo", "up")
            ip(
                "-n", wire.host, "link", "add", "eth0", "type", "veth",
                "peer", "name", "eth0", "netns", wire.neighbour,
            )  # fmt: skip
            for ns, address in ((wire.host, HOST), (wire.neighbour, NEIGHBOUR)):
                ip("-n", ns, "addr", "add", f"{address}/24", "dev", "eth0")
                ip("-n", ns, "link", "set", "eth0", "up")
            ip("-n", wire.neighbour, "addr", "add", f"{WORLD}/32", "dev", "lo")
            ip("-n", wire.host, "route", "add", "default", "via", NEIGHBOUR)
            # What is sent further out is answered at once: unreachable.
            ip("-n", wire.neighbour, "route", "add", "unreachable", "default")
            run(wire.neighbour, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        except BaseException:
            wire.remove()
            raise
        return wire

    def remove(self) -> None:
        for ns in (self.neighbour, self.host):
            subprocess.run(
                ["ip", "netns", "del", ns], capture_output=True, timeout=SLOW, check=False
            )


class Names:
    """A name server in a namespace: KNOWN_NAME is KNOWN_ADDRESS, all else does not exist."""

    def __init__(self, netns: str, address: str) -> None:
        self.address = address
        self._process = subprocess.Popen(
            inside(netns, sys.executable, "-c", _NAMES, address, KNOWN_NAME, KNOWN_ADDRESS),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while "53" not in run(netns, "ss", "-Hlnu", "sport", "=", ":53").stdout:
            if time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"no name server on {address} in {netns} after a minute")
            time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Echo:
    """An HTTP server in a namespace that answers with the client's address."""

    def __init__(self, netns: str, address: str, port: int) -> None:
        self.url = f"http://{address}:{port}/"
        self._process = subprocess.Popen(
            inside(netns, sys.executable, "-c", _ECHO, address, str(port)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while fetch(netns, self.url) is None:
            if time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"no answer from {self.url} in {netns} after a minute")
            time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def fetch(netns: str, url: str, timeout: float = 3) -> str | None:
    """Return the body of a GET from inside a namespace; None without an answer."""
    done = run(netns, "curl", "-sS", "--noproxy", "*", "--max-time", str(timeout), url)
    return done.stdout if done.returncode == 0 else None


def connected(netns: str, url: str, within: float = 60) -> str:
    """Fetch, with retries until it succeeds; fail the test after `within` seconds."""
    deadline = time.monotonic() + within
    while (body := fetch(netns, url)) is None:
        assert time.monotonic() < deadline, f"{url} does not answer from {netns}"
        time.sleep(0.05)
    return body
