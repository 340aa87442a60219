"""Survival of a whole lab: residents talk, guests come and go on all hosts, any program is killed.

storm: load, kills, supervisors --> lull: promises, agreement, reachability, firewall, traces
... again ... --> everybody leaves --> all hosts are as they were before
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from netkit.lab.running import RunningLab
from tests.labs import order
from tests.torture import remains
from tests.torture.guests import Guest, Host
from tests.torture.killing import Killer
from tests.torture.scenes import OVS, Scene
from tests.torture.silence import Silence
from tests.torture.storm import Unkept
from tests.torture.traffic import Talk

GUESTS = 2  # clients on each host
PAUSE = 2.5  # seconds between kills, at most
GUST = 12  # kills between two lulls
HANG = 150.0  # seconds in which a client must end its last request
LINES = 40  # of each daemon's log, where a promise was broken
QUIET = 120.0  # seconds until everything must be in order after a gust


@dataclass
class Report:
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0  # requests
    refused: Counter[str] = field(default_factory=Counter)  # requests, by the reason given
    lines: int = 0  # lines of talks
    silence: float = 0.0  # seconds, the longest of a talk
    settled: list[float] = field(default_factory=list)  # seconds from the end of a gust to order
    allowed: int = 0  # datagrams beside a rule that was attacked; none through it
    reached: int = 0  # questions in lulls, from container to container

    def __str__(self) -> str:
        kinds = ", ".join(f"{n} of {kind}" for kind, n in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kinds}), {self.acknowledged} requests acknowledged,"
            f" {self.refused.total()} refused with a reason, {self.lines} lines answered"
            f" (worst after {self.silence:.1f} s), {self.reached} pairs reached,"
            f" {self.allowed} datagrams beside a rule and none through it, in order after"
            f" {max(self.settled):.1f} s at most"
        )


def survive(
    lab: RunningLab,
    kills: int,
    seed: int,
    progress: Callable[[Report], None] = lambda report: None,
    scene: Scene = OVS,
) -> Report:
    """Raises AssertionError (Unkept, or a list) at the first broken promise.  The lab is up.

    The logs of the daemons are in its notes.
    """
    try:
        return _survive(lab, scene, kills, seed, progress)
    except AssertionError as broken:
        for host in order.hosts(lab):
            lines = lab[host].daemon.log.read_text(errors="replace").splitlines()[-LINES:]
            broken.add_note("\n".join([f"-- {host} --", *lines]))
        raise


def _survive(
    lab: RunningLab, scene: Scene, kills: int, seed: int, progress: Callable[[Report], None]
) -> Report:
    assert lab.check()
    if scene.rules:
        _warm(lab, scene)
    before, pids = remains.picture(lab, scene), _pids(lab, scene)
    storm = Storm(lab, seed, scene)
    with ExitStack() as ends:
        talks = []
        for n, network in enumerate(scene.talks):
            after = scene.residents[(n + 1) % len(scene.residents)]
            talk = Talk(lab, scene.residents[n], after, network)
            ends.callback(talk.stop)
            talks.append(talk)
        silence = None
        if scene.rules:
            silence = Silence(lab, *scene.residents[:2], scene.talks[0])
            ends.callback(silence.stop)
        ends.callback(storm.stop)
        storm.start()
        for begun in range(0, kills, GUST):
            storm.blow(min(GUST, kills - begun))
            storm.lull()
            progress(storm.report)
        for talk in talks:
            seen = talk.check()
            storm.report.lines += seen.lines
            storm.report.silence = max(storm.report.silence, seen.worst)
        storm.report.allowed = silence.check() if silence else 0
        if (now := _pids(lab, scene)) != pids:
            raise Unkept(f"residents were interrupted: processes {pids} are now {now}")
        storm.calm()
        remains.assert_clean(lab, before, scene)
    return storm.report


def _warm(lab: RunningLab, scene: Scene) -> None:
    """What is opened once, with the first access rule, is no leak."""
    for name in scene.residents:
        drop = ("fw", "drop", "--src", "192.0.2.1", "--to", name)
        lab[name].netkit("fw", "rm", lab[name].netkit(*drop).split()[0])


class Storm:
    def __init__(self, lab: RunningLab, seed: int, scene: Scene = OVS) -> None:
        self._lab, self._scene, self._rng = lab, scene, random.Random(seed)
        hosts = {name: Host(name, lab[name].daemon.url) for name in order.hosts(lab)}
        self._killer = Killer(lab, hosts, scene.kills, self._rng.getrandbits(32))
        self._guests = [
            Guest(host, n * GUESTS + m, random.Random(self._rng.random()), scene)
            for n, host in enumerate(hosts.values())
            for m in range(GUESTS)
        ]
        self.report = Report(kills=self._killer.tally)

    def start(self) -> None:
        for supervisor in self._killer.supervisors.values():
            supervisor.start()

    def stop(self) -> None:
        for supervisor in self._killer.supervisors.values():
            supervisor.stop()

    def blow(self, kills: int) -> None:
        """Load and kills; then requests stop, and everything is started again."""
        over = threading.Event()
        threads = [threading.Thread(target=g.work, args=(over,)) for g in self._guests]
        for thread in threads:
            thread.start()
        try:
            for _ in range(kills):
                time.sleep(self._rng.uniform(0.0, PAUSE))
                self._killer.kill()
        finally:
            over.set()
            deadline = time.monotonic() + HANG
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            raise Unkept(f"a request hangs: no end in {HANG:g} s")
        self._count()

    def _count(self) -> None:
        self.report.acknowledged = sum(g.acknowledged for g in self._guests)
        for guest in self._guests:
            self.report.refused.update(text.partition(": ")[2] for text in guest.refused)
            guest.refused.clear()
        failures = [text for g in self._guests for text in g.failures]
        if failures:
            raise Unkept("\n  ".join(["promises were broken:", *failures]))

    def lull(self) -> None:
        """Check that promises are kept, hosts agree, and containers reach each other as due."""
        lab, begin = self._lab, time.monotonic()
        self._killer.wait_all_run()
        for guest in self._guests:
            self._asking(guest, guest.settle)
        order.eventually(lambda: self._scene.in_order(lab) is None, seconds=QUIET)
        for guest in self._guests:  # who may have looked before the hosts agreed
            self._asking(guest, guest.settle)
        order.eventually(lambda: self._reach() is None, seconds=QUIET)
        for host in order.hosts(lab):
            order.eventually(lambda host=host: lab.netkit(host, "fw", "check"), seconds=QUIET)
        self.report.settled.append(time.monotonic() - begin)
        for n, network in enumerate(self._scene.talks if self._scene.verdicts else ()):
            source, target = self._scene.residents[n], self._scene.residents[n - 1]
            order.eventually(lambda: self._traced(source, target, network), seconds=QUIET)  # noqa: B023
        assert lab.check()  # silence too, beside its positive controls

    @staticmethod
    def _asking(guest: Guest, act: Callable[..., None]) -> None:
        api = guest.connected()
        try:
            act(api)
        finally:
            api.close()

    def _reach(self) -> None:
        """Ping between all containers, by name where hosts share names, else by address."""
        shared: dict[str, dict[str, str]] = {}  # network, name, address
        homes: dict[str, str] = {}
        for host in order.hosts(self._lab):
            for network in order.networks(self._lab, host, self._scene.driver):
                shared.setdefault(network.name, {}).update(network.names)
                homes |= dict.fromkeys(network.names, host)
        asked = []
        for network, names in shared.items():
            by_name = network not in self._scene.nameless
            for name in names:
                targets = {n if by_name else a: a for n, a in names.items() if n != name}
                asked.append((homes[name], name, targets))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: _pings(self._lab, *one), asked))
        self.report.reached += sum(len(targets) for _, _, targets in asked)

    def _traced(self, source: str, target: str, network: str) -> bool:
        found = self._lab.trace(source, self._lab[target].address(network), "tcp/80")
        what = f"{source} to {target} on {network}"
        assert found.verdict in self._scene.verdicts, f"{what}: {found}"
        return True

    def calm(self) -> None:
        """Remove all guests."""
        for guest in self._guests:
            self._asking(guest, guest.leave)


def _pings(lab: RunningLab, host: str, name: str, targets: dict[str, str]) -> None:
    """Raises AssertionError unless each target answers from its address."""
    script = 'for t; do echo "$t $(ping -c 1 -W 2 "$t" 2>&1 | tr "\\n" " ")"; done'
    output = lab.netkit(host, "exec", name, "sh", "-c", script, "sh", *targets, check=False)
    answers = dict(line.split(" ", 1) for line in output.splitlines())
    for target, address in targets.items():
        answer = answers.get(target, "nothing")
        assert f"({address})" in answer, f"{name} asks for {target}, {address}: {answer}"
        assert "1 packets received" in answer, f"{name} pings {target}: {answer}"


def _pids(lab: RunningLab, scene: Scene) -> dict[str, str]:
    return {
        name: lab[name].netkit("inspect", "-f", "{{.State.Pid}}", name).strip()
        for name in scene.residents
    }
