"""SIGKILL for the programs of a lab's hosts, and a supervisor each that starts them again."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from netkit.errors import KernelError
from netkit.lab import sweep
from netkit.lab.openvswitch import DATABASE, SWITCH, OpenVSwitch
from netkit.lab.running import RunningLab
from tests.torture.guests import Host

DAEMON, SERVER, LEADER = "netkitd", "server of the cluster", "leader of the cluster"
KINDS = (DAEMON, DAEMON, SWITCH, DATABASE, SERVER, LEADER)  # as often as they are here
LOOKS = (0.05, 1.5)  # seconds between looks of a supervisor
RECOVERY = 90.0  # seconds, for all that was killed to run again


class Supervisor:
    """A supervisor of one host: starts killed programs again, some time later."""

    def __init__(self, lab: RunningLab, host: Host, rng: random.Random) -> None:
        self._lab, self._host, self._rng = lab, host, rng
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"init of {host.name}")
        self.killed: list[int] = []  # netkitds, which are our children
        self.trouble = ""  # the last start that failed

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        sweep.reap(self.killed)

    def _run(self) -> None:
        while not self._over.wait(self._rng.uniform(*LOOKS)):
            sweep.reap(self.killed)
            try:
                self._lab.revive(self._host.name)
            except KernelError as error:  # killed while it started
                self.trouble = str(error)

    def all_run(self) -> bool:
        switch = switch_of(self._lab, self._host.name)
        programs = [switch.pid(DATABASE), switch.pid(SWITCH)]
        programs += self._lab[self._host.name].daemon.pids()[:1] or [0]
        if self._host.name in self._lab.lab.cluster:
            programs.append(server(self._lab, self._host.name))
        return all(programs)


class Killer:
    """Seeded choices: which program to kill, and when."""

    def __init__(self, lab: RunningLab, hosts: dict[str, Host], seed: int) -> None:
        self._lab, self._hosts = lab, hosts
        self._rng = random.Random(seed)
        self.supervisors = {
            name: Supervisor(lab, host, random.Random(self._rng.random()))
            for name, host in hosts.items()
        }
        self.tally: Counter[str] = Counter()
        self._kinds: list[str] = []

    def kill(self) -> str:
        """Kill a running program of a random kind; each kind once before any again."""
        while True:
            self._kinds = self._kinds or self._rng.sample(KINDS, len(KINDS))
            kind = self._kinds.pop()
            host = self._rng.choice(list(self._hosts))
            if pid := self._find(kind, host):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.tally[kind] += 1
                    return kind
            time.sleep(0.05)

    def _find(self, kind: str, host: str) -> int:
        """Return the pid of a program of the kind; 0 if none runs."""
        match kind:
            case "netkitd":
                pids = self._lab[host].daemon.pids()
                if pids:
                    self._hosts[host].deaths += 1
                    self.supervisors[host].killed.append(pids[0])
                return pids[0] if pids else 0
            case "ovsdb-server" | "ovs-vswitchd":
                return switch_of(self._lab, host).pid(kind)
            case _:
                servers = {h: server(self._lab, h) for h in self._lab.lab.cluster}
                leads = [h for h in servers if _leads(self._lab, h)] if kind == LEADER else []
                return servers[self._rng.choice(leads or list(servers))]

    def wait_all_run(self) -> None:
        deadline = time.monotonic() + RECOVERY
        while late := [s for s in self.supervisors.values() if not s.all_run()]:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"after {RECOVERY:g} s not everything runs again: {[s.trouble for s in late]}"
                )
            time.sleep(0.1)


def switch_of(lab: RunningLab, host: str) -> OpenVSwitch:
    return OpenVSwitch(lab.places.netns(host), Path(lab.places.ovs(host)))


def server(lab: RunningLab, host: str) -> int:
    """Return the pid of a host's server of the cluster; 0 if it does not run."""
    folder = Path(lab.places.run(host)) / "cluster"
    with suppress(OSError, ValueError):
        pid = int((folder / "ovsdb-server.pid").read_text())
        if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return 0


def _leads(lab: RunningLab, host: str) -> bool:
    control = str(Path(lab.places.run(host)) / "cluster" / "control")
    asked = subprocess.run(
        ["ovs-appctl", "--timeout=2", "-t", control, "cluster/status", "Netkit"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return re.search("^Role: leader", asked.stdout, re.MULTILINE) is not None
