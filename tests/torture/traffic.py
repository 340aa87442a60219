"""Connections between residents that stay open while a storm goes over the hosts.

A switch that dies takes its packets along, so a line may be late; nothing of it may be lost,
and no connection may break.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from netkit.lab.running import RunningLab
from tests.torture.storm import Unkept

PORT = 9  # of the residents' echo
PATIENCE = 120  # seconds; a retransmission may be a minute away from the last one

_TALK = """
import json, select, socket, sys, time
host, port, patience = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
count, worst, wrong = 0, 0.0, ""
long = socket.create_connection((host, port), 10)
long.settimeout(patience)
print("ready", flush=True)
try:
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        count += 1
        line, got, begin = b"%08d\\n" % count, b"", time.monotonic()
        long.sendall(line)
        while len(got) < len(line) and (part := long.recv(64)):
            got += part
        worst = max(worst, time.monotonic() - begin)
        if got != line:
            wrong = f"answer {count} is {got!r}"
            break
except OSError as error:
    wrong = f"line {count}: {error!r}"
print(json.dumps({"lines": count, "worst": worst, "wrong": wrong}), flush=True)
"""


@dataclass(frozen=True)
class Seen:
    lines: int  # all of them answered
    worst: float  # seconds until an answer


class Talk:
    """One connection, from container to container of a network."""

    def __init__(self, lab: RunningLab, source: str, target: str, network: str) -> None:
        self.name = f"{source} to {target} on {network}"
        address = lab[target].address(network)
        self._process = subprocess.Popen(
            ["nsenter", f"--net={lab[source].netns}", "--", sys.executable, "-c", _TALK, address,
             str(PORT), str(PATIENCE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            self.stop()
            raise RuntimeError(f"{self.name}: no connection")

    def check(self) -> Seen:
        """Stop talking.  Raises Unkept if anything was lost."""
        output, _ = self._process.communicate("end\n", timeout=PATIENCE + 10)
        report: dict[str, Any] = json.loads(output.splitlines()[-1])
        if report["wrong"]:
            raise Unkept(f"{self.name}: after {report['lines']} lines: {report['wrong']}")
        return Seen(report["lines"], report["worst"])

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
