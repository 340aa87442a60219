"""Kill -9 of netkitd, dockerd, containerd and conmon, at random, while containers come and go.

    python -m tests.torture.plugin --kills 300 --seed 7        # as root; needs a dockerd

Containers are dockerd's, and netkit's own on the same networks, each with its conmon.  After each
kill what died is started again; a conmon is not.  In the end every container that
either engine runs has the address that its engine says, on netkit's network, and dockerd's reach
each other there; and once all are removed, netkit has nothing: no link, no rule, no address, no
row.
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import requests

from tests.engine.daemon import Engine
from tests.engine.dockerd import DockerHost, docker_host
from tests.engine.wire import inside

NETWORKS = ("lane0", "lane1")
KILLED = ("netkitd", "netkitd", "dockerd", "containerd", "conmon")
CONTAINERS = 3  # of each client
CLIENTS = 3
SETTLE = 120.0  # seconds
LOST = (docker.errors.APIError, docker.errors.DockerException, requests.RequestException, OSError)


@dataclass
class Storm:
    host: DockerHost
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, kills: int, pause: tuple[float, float]) -> None:
        for name in NETWORKS:
            self.host.docker.docker(
                "network", "create", "-d", "netkit-bridge", "--ipam-driver", "netkit",
                "-o", f"netkit.network={name}", name,
            )  # fmt: skip
        engines = [self.host.docker] * CLIENTS + [self.host.netkit]
        clients = [
            threading.Thread(target=self._client, args=(n, e)) for n, e in enumerate(engines)
        ]
        for client in clients:
            client.start()
        try:
            for _ in range(kills):
                time.sleep(self.rng.uniform(*pause))
                self._kill(self.rng.choice(KILLED))
        finally:
            self.over.set()
            for client in clients:
                client.join()
        self._compare()
        self._remove_all()

    # the load

    def _client(self, number: int, engine: Engine) -> None:
        rng = random.Random(self.rng.random())
        names = [f"c{number}{n}" for n in range(CONTAINERS)]
        api = docker.APIClient(base_url=engine.host, version="1.41", timeout=120)
        try:
            while not self.over.is_set():
                try:
                    self._step(api, rng, rng.choice(names))
                    self.done["done"] += 1
                except LOST:  # refused, or cut off by a kill
                    self.done["refused"] += 1
                    time.sleep(0.05)
        finally:
            api.close()

    def _step(self, api: docker.APIClient, rng: random.Random, name: str) -> None:
        match rng.choice(("run", "run", "stop", "start", "rm", "connect", "disconnect")):
            case "run":
                port = 21_500 + int(name[1:])
                ports = {80: port} if rng.random() < 0.5 else None
                config = api.create_host_config(
                    network_mode=rng.choice(NETWORKS), port_bindings=ports
                )
                api.create_container(
                    "busybox", ["sleep", "100000"], name=name, host_config=config,
                    ports=[80] if ports else None, stop_signal="SIGKILL",
                )  # fmt: skip
                api.start(name)
            case "stop":
                api.stop(name, timeout=1)
            case "start":
                api.start(name)
            case "rm":
                api.remove_container(name, force=True)
            case "connect":
                api.connect_container_to_network(name, rng.choice(NETWORKS))
            case "disconnect":
                api.disconnect_container_from_network(name, rng.choice(NETWORKS))

    # kills

    def _kill(self, what: str) -> None:
        host = self.host
        self.kills[what] += 1
        if what == "netkitd":
            host.netkit.kill9()
            time.sleep(self.rng.uniform(0, 0.3))
            host.netkit.restart()
        elif what == "dockerd":
            host.docker.kill9()
            host.restart_docker()
        elif what == "conmon":
            mark = str(host.netkit.rundir)
            found = subprocess.run(
                ["pgrep", "-f", f"conmon .*{mark}"], capture_output=True, text=True
            )
            pids = found.stdout.split()
            self.kills["conmon"] -= not pids
            for pid in self.rng.sample(pids, min(1, len(pids))):
                subprocess.run(["kill", f"-{signal.SIGKILL.value}", pid], check=False)
        else:
            found = subprocess.run(
                ["pgrep", "-P", str(host.docker.pid), "containerd"], capture_output=True, text=True
            )
            for pid in found.stdout.split():
                subprocess.run(["kill", f"-{signal.SIGKILL.value}", pid], check=False)

    # what has to hold

    def _compare(self) -> None:
        """dockerd and netkit agree on who runs, and where."""
        host = self.host
        if not host.docker.ready():
            host.docker.kill9()
            host.restart_docker()
        deadline = time.monotonic() + SETTLE
        while (why := self._differences()) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.failures += why
        running = self._running(host.docker)
        for c in running:
            for name, net in c["NetworkSettings"]["Networks"].items():
                others = [
                    o["NetworkSettings"]["Networks"][name]["IPAddress"]
                    for o in running if name in o["NetworkSettings"]["Networks"] and o is not c
                ]  # fmt: skip
                for address in others[:1]:
                    if why := self._unreached(c["Id"], address):
                        self.failures.append(
                            f"{c['Names'][0]} at {net['IPAddress']} does not reach {address}: {why}"
                        )

    def _unreached(self, container: str, address: str) -> str:
        """Why a ping from the container's namespace is not answered; "" where it is.

        Not by `docker exec`: after kills of containerd dockerd takes some containers for running
        that runc has as stopped, and refuses it.
        """
        pid = self.host.docker.client.api.inspect_container(container)["State"]["Pid"]
        argv = ("nsenter", f"--net=/proc/{pid}/ns/net", "busybox", "ping", "-c1", "-W20", address)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        said = " ".join((done.stdout + done.stderr).split())
        over = "cannot open /proc" in said  # its process has ended since: it is of no network
        return said if done.returncode and not over else ""

    def _differences(self) -> list[str]:
        wanted = {
            (c["Names"][0][1:], net["IPAddress"])
            for engine in (self.host.docker, self.host.netkit) for c in self._running(engine)
            for net in c["NetworkSettings"]["Networks"].values()
        }  # fmt: skip
        have = {
            (c["Name"], c["IPv4Address"].partition("/")[0])
            for n in self.host.networks() for c in n["Containers"].values()
        }  # fmt: skip
        return [f"engines have {sorted(wanted)}, netkit {sorted(have)}"] if wanted != have else []

    @staticmethod
    def _running(engine: Engine) -> list[Any]:
        return [c for c in engine.client.api.containers() if c["State"] == "running"]

    def _remove_all(self) -> None:
        self.host.netkit.clear(keep_networks=NETWORKS)
        self.host.docker.clear()
        deadline = time.monotonic() + SETTLE
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        self.failures += left

    def _left(self) -> list[str]:
        host = self.host
        found = [f"link {n}" for n in host.links()]
        found += [f"network {n['Name']}" for n in host.networks()]
        rules = subprocess.run(
            inside(host.netkit.netns, "iptables-save"), capture_output=True, text=True, check=True
        ).stdout
        found += [line for line in rules.splitlines() if "docker-" in line or " on lane" in line]
        with sqlite3.connect(next(Path(host.netkit.root).glob("*.db"))) as db:
            for table in ("networks", "endpoints", "pools", "leases"):
                rows = db.execute(f"SELECT * FROM docker_{table}").fetchall()
                found += [f"docker_{table}: {row}" for row in rows]
            found += [f"address {row}" for row in db.execute(
                "SELECT * FROM addresses WHERE kind IN (?, ?)", ("lease", "static"))]  # fmt: skip
        return found


def storm(kills: int, seed: int, *flags: str, pause: tuple[float, float] = (0.1, 2.0)) -> Storm:
    """Run a storm; its `failures` are what did not hold."""
    with docker_host(*flags, containers=True) as host:
        s = Storm(host, random.Random(seed))
        s.run(kills, pause)
        return s


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m tests.torture.plugin", description=__doc__)
    p.add_argument("--kills", type=int, default=300)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--live-restore", action="store_true", help="of dockerd")
    given = p.parse_args(argv)
    begin = time.monotonic()
    found = storm(given.kills, given.seed, *(["--live-restore"] if given.live_restore else []))
    for failure in found.failures:
        print(failure, file=sys.stderr)
    print(
        f"{sum(found.kills.values())} kills ({dict(found.kills)}), requests {dict(found.done)}, "
        f"{len(found.failures)} failures, {time.monotonic() - begin:.0f} s"
    )
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
