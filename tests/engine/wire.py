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
import http.server, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.client_address[0] + "\\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
"""


def ip(*args: str) -> str:
    return subprocess.run(
        ["ip", *args], check=True, capture_output=True, text=True, timeout=30
    ).stdout


def inside(netns: str, *argv: str) -> list[str]:
    """argv that runs in a named namespace, in our mount namespace (unlike `ip netns exec`)."""
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
        except BaseException:
            wire.remove()
            raise
        return wire

    def remove(self) -> None:
        for ns in (self.neighbour, self.host):
            subprocess.run(["ip", "netns", "del", ns], capture_output=True, timeout=30, check=False)


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
        deadline = time.monotonic() + 10
        while fetch(netns, self.url) is None:
            if time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"no answer from {self.url} in {netns} after 10 s")
            time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def fetch(netns: str, url: str, timeout: float = 3) -> str | None:
    """Body of a GET made from inside a namespace; None when it could not be had."""
    done = run(netns, "curl", "-sS", "--noproxy", "*", "--max-time", str(timeout), url)
    return done.stdout if done.returncode == 0 else None


def connected(netns: str, url: str, within: float = 5) -> str:
    """Like fetch, retried until it succeeds; fails the test after `within` seconds."""
    deadline = time.monotonic() + within
    while (body := fetch(netns, url)) is None:
        assert time.monotonic() < deadline, f"{url} does not answer from {netns}"
        time.sleep(0.05)
    return body
