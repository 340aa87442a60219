"""Flows between two namespaces: throughput by iperf3, and round trips."""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from socket import AF_INET, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY

from netkit.kernel import netns

ROUND_TRIP = 5202  # the port of round trips where it has to be known


@dataclass(frozen=True, slots=True)
class Flow:
    client: str  # namespaces, as files
    server: str
    address: str  # of the server
    own: str = ""  # where the server listens, where that is another

    def iperf(
        self, seconds: float, *argv: str, env: Mapping[str, str] | None = None
    ) -> dict[str, float]:
        """The receiver's sum: bits_per_second, bytes, and of UDP packets and lost_packets."""
        at = [f"--net={self.server}", "--", "iperf3", "-s", "-1", "-B", self.own or self.address]
        server = subprocess.Popen(["nsenter", *at], stdout=subprocess.DEVNULL, env=env)
        try:
            command = ["nsenter", f"--net={self.client}", "--", "iperf3", "-c", self.address,
                       "-t", str(seconds), "-J", *argv]  # fmt: skip
            for _ in range(50):  # until it listens
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=seconds + 30,
                    env=env,
                )  # fmt: skip
                report = json.loads(done.stdout or "{}")
                if done.returncode == 0 and "error" not in report:
                    end = report["end"]
                    found: dict[str, float] = end.get("sum_received") or end["sum"]
                    return found
                time.sleep(0.1)
            raise RuntimeError(f"iperf3: {report.get('error', done.stderr[-300:])}")
        finally:
            server.kill()
            server.wait()

    def round_trip(self, count: int, *, pause: float = 0.0) -> float:
        """µs for one byte there and back on a TCP connection, the median of `count`.

        `pause`: seconds between two of them.
        """
        with netns.open_socket(self.server, AF_INET, SOCK_STREAM) as listener:
            listener.bind((self.own or self.address, ROUND_TRIP if self.own else 0))
            listener.listen(1)

            def answer() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                    while data := connection.recv(1):
                        connection.send(data)

            thread = threading.Thread(target=answer)
            thread.start()
            with netns.open_socket(self.client, AF_INET, SOCK_STREAM) as asking:
                asking.settimeout(10)
                asking.connect((self.address, listener.getsockname()[1]))
                asking.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                took = []
                for _ in range(count):
                    begin = time.perf_counter()
                    asking.send(b"x")
                    asking.recv(1)
                    took.append(time.perf_counter() - begin)
                    if pause:
                        time.sleep(pause)
            thread.join()
        return statistics.median(took) * 1e6
