"""SIGKILL for the programs of a lab's hosts, and a supervisor each that starts them again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from netkit.errors import KernelError
from netkit.lab import sweep
from netkit.lab.openvswitch import DATABASE, SWITCH
from netkit.lab.ovn import CONTROLLER, NORTHD, Controller
from netkit.lab.running import RunningLab
from tests.torture import ovn
from tests.torture.guests import Host
from tests.torture.processes import leads, server, switch_of
from tests.torture.scenes import CUT, DAEMON, LEADER

LOOKS = (0.05, 1.5)  # seconds between looks of a supervisor
OFF = (1.0, 12.0)  # seconds that a host stays cut off
RECOVERY = 90.0  # seconds, for all that was killed to run again
OVN_PROGRAMS = ("nb", "sb", NORTHD)


class Supervisor:
    """A supervisor of one host: starts killed programs again, some time later."""

    def __init__(self, lab: RunningLab, host: Host, rng: random.Random) -> None:
        self._lab, self._host, self._rng = lab, host, rng
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"init of {host.name}")
        self._back: float | None = None  # when the cut ends
        self.killed: list[int] = []  # netkitds, which are our children
        self.trouble = ""  # the last start that failed

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        sweep.reap(self.killed)
        self._join()

    def cut(self) -> bool:
        """Take the host's cable out for some time; False if it is out already."""
        if self._back is not None:
            return False
        self._lab[self._host.name].run("ip", "link", "set", "eth0", "down")
        self._host.deaths += 1
        self._back = time.monotonic() + self._rng.uniform(*OFF)
        return True

    def _join(self) -> None:
        if self._back is not None:
            self._lab[self._host.name].run("ip", "link", "set", "eth0", "up")
            self._back = None

    def _run(self) -> None:
        while not self._over.wait(self._rng.uniform(*LOOKS)):
            sweep.reap(self.killed)
            if self._back is not None and time.monotonic() > self._back:
                self._join()
            try:
                self._lab.revive(self._host.name)
            except KernelError as error:  # killed while it started
                self.trouble = str(error)

    def all_run(self) -> bool:
        lab, host = self._lab, self._host.name
        switch = switch_of(lab, host)
        programs = [switch.pid(DATABASE), switch.pid(SWITCH)]
        programs += lab[host].daemon.pids()[:1] or [0]
        if host in lab.lab.cluster:
            programs.append(server(lab, host))
        if lab.lab.ovn:
            programs.append(Controller(switch).pid(CONTROLLER))
        if host in lab.lab.ovn:
            programs += [ovn.pid(lab, host, kind) for kind in OVN_PROGRAMS]
        return all(programs) and self._back is None


class Killer:
    """Seeded choices: which program to kill, and when."""

    def __init__(
        self, lab: RunningLab, hosts: dict[str, Host], kinds: Sequence[str], seed: int
    ) -> None:
        self._lab, self._hosts, self._all = lab, hosts, kinds
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
            self._kinds = self._kinds or self._rng.sample(self._all, len(self._all))
            kind = self._kinds.pop()
            host = self._rng.choice(list(self._hosts))
            if self._strike(kind, host):
                self.tally[kind] += 1
                return kind
            time.sleep(0.05)

    def _strike(self, kind: str, host: str) -> bool:
        """Whether there was something to kill, or to cut."""
        if kind == CUT:
            return self.supervisors[host].cut()
        if pid := self._find(kind, host):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _find(self, kind: str, host: str) -> int:
        """Return the pid of a program of the kind; 0 if none runs."""
        lab = self._lab
        if kind == DAEMON:
            pids = lab[host].daemon.pids()
            if pids:
                self._hosts[host].deaths += 1
                self.supervisors[host].killed.append(pids[0])
            return pids[0] if pids else 0
        if kind in {DATABASE, SWITCH}:
            return switch_of(lab, host).pid(kind)
        if kind == CONTROLLER:
            return Controller(switch_of(lab, host)).pid(kind)
        if kind == NORTHD:
            return ovn.pid(lab, host, kind)
        if kind in {*ovn.LEADERS, *ovn.SERVERS}:
            database = kind.rpartition(" ")[2]
            leading = ovn.leaders(lab, database) if kind in ovn.LEADERS else []
            return ovn.pid(lab, self._rng.choice(leading or list(lab.lab.ovn)), database)
        servers = {h: server(lab, h) for h in lab.lab.cluster}
        leading = [h for h in servers if leads(lab, h, "cluster", "Netkit")]
        chosen = leading if kind == LEADER else []
        return servers[self._rng.choice(chosen or list(servers))]

    def wait_all_run(self) -> None:
        deadline = time.monotonic() + RECOVERY
        while late := [s for s in self.supervisors.values() if not s.all_run()]:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"after {RECOVERY:g} s not everything runs again: {[s.trouble for s in late]}"
                )
            time.sleep(0.1)
