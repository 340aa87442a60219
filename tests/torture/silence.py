"""A rule that is attacked all through a storm: what it drops must never get through.

One process in each of two containers' namespaces: datagrams to a port that is dropped, and to one
that is not, which proves that there was a way.
"""

from __future__ import annotations

import json
import subprocess
import sys

from netkit.lab.running import RunningLab
from tests.torture.storm import Unkept

SHUT, OPEN = 7777, 7778  # UDP
EVERY = 0.01  # seconds between datagrams
_SEND = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    print("ready", flush=True)
    while True:
        for port in sys.argv[2:4]:
            try:
                s.sendto(b"x", (sys.argv[1], int(port)))
            except OSError:
                pass  # ICMP's answer to an earlier one, or no neighbour yet
        time.sleep(float(sys.argv[4]))
"""
_RECEIVE = """
import json, select, socket, sys, time
ports = [int(p) for p in sys.argv[2:4]]
socks = {}
for port in ports:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((sys.argv[1], port))
    socks[s] = port
seen, when = dict.fromkeys(ports, 0), []
print("ready", flush=True)
while True:
    ready = select.select([sys.stdin, *socks], [], [])[0]
    for s in ready:
        if s is sys.stdin:
            print(json.dumps({"shut": seen[ports[0]], "open": seen[ports[1]], "when": when}))
            sys.exit()
        s.recv(64)
        seen[socks[s]] += 1
        if socks[s] == ports[0] and len(when) < 20:
            when.append(time.strftime("%H:%M:%S"))
"""


class Silence:
    """`source` of another host attacks `target`, whose rule is made here."""

    def __init__(self, lab: RunningLab, source: str, target: str, network: str) -> None:
        self.name = f"{source} to {target}"
        self._lab, self._target, self._rule, self._running = lab, target, "", []
        address = lab[target].address(network)
        drop = ("fw", "drop", "--src", lab[source].address(network), "--to", target)
        self._rule = lab[target].netkit(*drop, "--port", f"{SHUT}/udp").split()[0]
        words = [address, str(SHUT), str(OPEN)]
        try:
            self._receiver = self._start(target, _RECEIVE, *words)
            self._start(source, _SEND, *words, str(EVERY))
        except BaseException:
            self.stop()
            raise

    def _start(self, name: str, program: str, *argv: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["nsenter", f"--net={self._lab[name].netns}", "--", sys.executable, "-c", program,
             *argv],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._running.append(process)
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{self.name}: does not start")
        return process

    def check(self) -> int:
        """Stop, and return how many got to the open port.  Raises Unkept if any to the other."""
        output, _ = self._receiver.communicate("end\n", timeout=10)
        seen = json.loads(output.splitlines()[-1])
        if seen["shut"]:
            raise Unkept(f"{self.name}: {seen['shut']} that a rule drops got through: {seen}")
        if not seen["open"]:
            raise Unkept(f"{self.name}: nothing got through, of what no rule drops either")
        self.stop()
        return int(seen["open"])

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self._running.clear()
        if self._rule:
            self._lab[self._target].netkit("fw", "rm", self._rule)
            self._rule = ""
