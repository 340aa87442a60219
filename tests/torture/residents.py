"""Containers that a kill of the daemon must not disturb: they serve, log and keep connections."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from tests.engine import wire
from tests.engine.daemon import Engine
from tests.torture.storm import Unkept

WEB_PORT, FLOW_PORT = 6080, 6081
LOG_LINES_PER_SECOND = 50

# Asks for the page over and over, keeps one connection open, and at the end of its input prints
# what went wrong.  Runs in the neighbour's namespace.
_PROBE = """
import json, select, socket, sys, time
host, web, flow = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tried, wrong = 0, []
long = socket.create_connection((host, flow), 5)
long.settimeout(5)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.02)[0]:
    tried += 1
    try:
        with socket.create_connection((host, web), 3) as s:
            s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            s.settimeout(3)
            got = b""
            while part := s.recv(4096):
                got += part
            if b"hello from the engine" not in got:
                wrong.append(f"{time.time():.2f} page: {got[:80]!r}")
    except OSError as error:
        wrong.append(f"{time.time():.2f} page: {error!r}")
    try:
        long.sendall(b"%06d\\n" % tried)
        if long.recv(64) != b"%06d\\n" % tried:
            wrong.append(f"{time.time():.2f} connection: closed or garbled")
            break
    except OSError as error:
        wrong.append(f"{time.time():.2f} connection: {error!r}")
        break
print(json.dumps({"tried": tried, "wrong": wrong}), flush=True)
"""

_LOGGER = "i=0; while :; do echo line $i; i=$((i+1)); usleep 20000; done"


class Residents:
    """`start()`, then any number of kills of the daemon, then `check()`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def start(self) -> None:
        e = self.engine
        e.up("-p", f"{WEB_PORT}:80", "busybox", "httpd", "-f", "-h", "/www", name="web")
        e.up("-p", f"{FLOW_PORT}:9", "busybox", "nc", "-ll", "-p", "9", "-e", "cat", name="flow")
        e.up("busybox", "sh", "-c", _LOGGER, name="logger")
        wire.connected(e.wire.neighbour, f"http://{wire.HOST}:{WEB_PORT}/")
        self.pids = self._pids()
        self.probe = subprocess.Popen(
            wire.inside(
                e.wire.neighbour,
                sys.executable,
                "-c",
                _PROBE,
                wire.HOST,
                str(WEB_PORT),
                str(FLOW_PORT),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.probe.stdout is not None
        if self.probe.stdout.readline().strip() != "ready":
            raise RuntimeError("the probe cannot connect to the residents")
        self.begun = time.monotonic()

    def _pids(self) -> dict[str, int]:
        return {name: self.engine.state(name)["Pid"] for name in ("web", "flow", "logger")}

    def check(self, *, most_lost: int = 0) -> dict[str, Any]:
        """Stop probing; return the probe's counts; raises Unkept if anything was interrupted."""
        output, _ = self.probe.communicate("end\n", timeout=30)
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        if len(report["wrong"]) > most_lost:
            raise Unkept(
                f"traffic was disturbed {len(report['wrong'])} times: {report['wrong'][:10]}"
            )
        if (now := self._pids()) != self.pids:
            raise Unkept(f"residents were interrupted: processes {self.pids} are now {now}")
        report["lines"] = self._check_log(time.monotonic() - self.begun)
        return report

    def _check_log(self, seconds: float) -> int:
        lines = self.engine.docker("logs", "logger").stdout.splitlines()
        numbers = [int(line.removeprefix("line ")) for line in lines]
        if numbers != list(range(len(numbers))):
            broken = next(i for i, n in enumerate(numbers) if i != n)
            raise Unkept(f"the log has a gap at line {broken}: {lines[broken - 2 : broken + 3]}")
        if len(numbers) < seconds * LOG_LINES_PER_SECOND / 10:  # a slow machine writes fewer
            raise Unkept(f"only {len(numbers)} lines in {seconds:.0f} s: the log stood still")
        return len(numbers)

    def stop(self) -> None:
        if self.probe.poll() is None:
            self.probe.kill()
        self.probe.communicate()
