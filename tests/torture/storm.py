"""A mixed load on an engine whose daemon is killed again and again, and what must hold after.

Every client is sequential and has its own containers, so that it knows what it has been promised:
what was acknowledged is there after the restart, what was refused is not, and only the one request
that was under way at the kill may have gone either way.  Seeded: the same seed makes the same
choices (the kernel's timing stays its own).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import docker
import requests

from tests.engine.daemon import Engine

CLIENTS = 4
SLOTS = 3  # containers a client may have at a time
FIRST_PORT = 7000
WINDOW = 0.5  # seconds after the start of a round in which the kill comes, at least
TIGHT = "tight"  # a network with room for all containers of the load and five more
TIGHT_SUBNET = "10.66.0.0/28"
TIGHT_ROOM = 13  # 16 less network, broadcast and gateway
COMMAND = ["sleep", "100000"]

# What a client sees when the daemon dies under its request.
DIED = (requests.exceptions.RequestException, docker.errors.DockerException, OSError, ValueError)


class Unkept(AssertionError):
    """The engine broke a promise."""


@dataclass
class Slot:
    """A name of one client and what the client knows of the container with that name."""

    name: str
    port: int
    exists: bool | None = False  # None: a request about it was under way when the daemon died
    running: bool | None = False
    pid: int = 0  # of the running container, once known
    networks: set[str] = field(default_factory=set)


class Client:
    """One user of the engine: does random things in sequence, until stopped or cut off."""

    def __init__(self, engine: Engine, number: int, rng: random.Random) -> None:
        self.engine, self.number, self.rng = engine, number, rng
        self.slots = [
            Slot(name=f"w{number}-{n}", port=FIRST_PORT + number * SLOTS + n) for n in range(SLOTS)
        ]
        self.network = Slot(name=f"net{number}", port=0)
        self.acknowledged = 0
        self.failures: list[str] = []

    def work(self, over: threading.Event) -> None:
        api = docker.APIClient(base_url=self.engine.host, version="1.41", timeout=60)
        try:
            while not over.is_set():
                if not self._step(api, over):
                    return
                self.acknowledged += 1
        finally:
            api.close()

    def _step(self, api: docker.APIClient, over: threading.Event) -> bool:
        slot = self.rng.choice(self.slots)
        act = self.rng.choice(self._choices(slot))
        try:
            act(api, slot)
        except docker.errors.APIError as error:
            # A whole answer: the daemon was alive and refused what it had no reason to.
            self.failures.append(f"{act.__name__} {slot.name}: {error}")
            return False
        except DIED as error:
            if not over.is_set() and self.engine.running():
                self.failures.append(f"{act.__name__} {slot.name}: connection lost: {error!r}")
            return False
        return True

    def _choices(self, slot: Slot) -> list[Callable[[docker.APIClient, Slot], None]]:
        """Return the actions that are possible now; common ones several times."""
        if not slot.exists:
            return [self.create, self.run, self.run]
        if not slot.running:
            return [self.start, self.start, self.remove]
        return [
            self.stop,
            self.remove,
            self.exec,
            self.exec,
            self.join_or_leave,
            self.join_or_leave,
        ]

    def create(self, api: docker.APIClient, slot: Slot) -> None:
        slot.exists, slot.running, slot.pid = None, False, 0
        slot.networks.clear()
        network = self.rng.choice(["bridge", TIGHT])
        host = api.create_host_config(port_bindings={80: slot.port}, network_mode=network)
        api.create_container(
            "busybox", COMMAND, name=slot.name, ports=[80], host_config=host, stop_signal="SIGKILL"
        )
        slot.exists = True

    def start(self, api: docker.APIClient, slot: Slot) -> None:
        slot.running = None
        api.start(slot.name)
        slot.running = True
        slot.pid = api.inspect_container(slot.name)["State"]["Pid"]

    def run(self, api: docker.APIClient, slot: Slot) -> None:
        self.create(api, slot)
        self.start(api, slot)

    def stop(self, api: docker.APIClient, slot: Slot) -> None:
        slot.running, slot.pid = None, 0
        api.stop(slot.name, timeout=2)
        slot.running = False

    def remove(self, api: docker.APIClient, slot: Slot) -> None:
        slot.exists = slot.running = None
        slot.pid = 0
        api.remove_container(slot.name, force=True)
        slot.exists = slot.running = False

    def exec(self, api: docker.APIClient, slot: Slot) -> None:
        ident = api.exec_create(slot.name, ["echo", slot.name])["Id"]
        output = api.exec_start(ident)
        if output.strip().decode() == slot.name:
            return
        # docker-py reads below its buffer, in which is what came together with the reply's head.
        with suppress(docker.errors.APIError):  # forgotten: by the next daemon
            if not output and api.exec_inspect(ident)["ExitCode"] == 0:
                return
        raise requests.exceptions.ConnectionError(f"cut off: {output!r}")  # counts if it is alive

    def join_or_leave(self, api: docker.APIClient, slot: Slot) -> None:
        """Connect to or disconnect from the client's own network, which is made and removed too."""
        net = self.network
        if not net.exists:
            net.exists = None
            api.create_network(net.name)
            net.exists = True
        elif net.name in slot.networks:
            slot.networks.discard(net.name)
            slot.running = None  # which networks it is on is not asked about again
            api.disconnect_container_from_network(slot.name, net.name)
            slot.running = True
        elif not any(net.name in other.networks for other in self.slots):
            slot.networks.add(net.name)
            api.connect_container_to_network(slot.name, net.name)
        elif self.rng.random() < 0.3:
            exists = api.networks(names=[net.name])
            if not exists:
                raise Unkept(f"network {net.name} was acknowledged and is missing")

    def settle(self, api: docker.APIClient) -> None:
        """After a restart: compare promises with facts, then take the facts for granted."""
        facts = {c["Names"][0].lstrip("/"): c for c in api.containers(all=True)}
        for slot in self.slots:
            self._compare(slot, facts.get(slot.name), api)
        nets = {n["Name"] for n in api.networks()}
        if self.network.exists is True and self.network.name not in nets:
            raise Unkept(f"network {self.network.name} was acknowledged and is missing")
        if self.network.exists is False and self.network.name in nets:
            raise Unkept(f"network {self.network.name} was removed and is back")
        self.network.exists = self.network.name in nets

    def _compare(self, slot: Slot, fact: dict[str, Any] | None, api: docker.APIClient) -> None:
        if slot.exists is True and fact is None:
            raise Unkept(f"container {slot.name} was acknowledged and is missing")
        if slot.exists is False and fact is not None:
            raise Unkept(f"container {slot.name} was removed and is back: {fact['State']}")
        state = fact["State"] if fact else "gone"
        if slot.running is True and slot.exists and state != "running":
            raise Unkept(f"container {slot.name} ran and is {state}")
        if slot.running is False and slot.exists and state == "running":
            raise Unkept(f"container {slot.name} was stopped and runs")
        if state in {"removing", "dead", "paused", "restarting"}:
            raise Unkept(f"container {slot.name} is stuck: {state}")
        slot.exists, slot.running = fact is not None, state == "running"
        if fact is None:
            slot.networks.clear()
            return
        details = api.inspect_container(fact["Id"])
        pid = details["State"]["Pid"]
        if slot.pid and slot.running and slot.pid != pid:
            raise Unkept(f"container {slot.name} was interrupted: process {slot.pid} is now {pid}")
        slot.pid = pid if slot.running else 0
        slot.networks = set(details["NetworkSettings"]["Networks"]) - {"bridge", TIGHT}


@dataclass
class Storm:
    """The whole run: `blow` once per kill, then `calm` removes everything again."""

    engine: Engine
    seed: int
    restarts: list[float] = field(default_factory=list)  # seconds until ready
    window: float = WINDOW

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.clients = [
            Client(self.engine, n, random.Random(self.rng.random())) for n in range(CLIENTS)
        ]
        pool = docker.types.IPAMPool(subnet=TIGHT_SUBNET)
        self._api(
            lambda api: api.create_network(TIGHT, ipam=docker.types.IPAMConfig(pool_configs=[pool]))
        )

    @property
    def acknowledged(self) -> int:
        return sum(client.acknowledged for client in self.clients)

    def blow(self) -> None:
        """One round: load, SIGKILL at a random instant, restart, compare."""
        over = threading.Event()
        threads = [threading.Thread(target=c.work, args=(over,)) for c in self.clients]
        for thread in threads:
            thread.start()
        time.sleep(self.rng.uniform(0.0, self.window))
        over.set()  # a client cut off from here on is no fault of the daemon
        self.engine.kill9()
        for thread in threads:
            thread.join(90)
            if thread.is_alive():
                raise Unkept("a request hangs although the daemon is dead")
        begin = time.monotonic()
        self.engine.restart()
        self.restarts.append(time.monotonic() - begin)
        self._api(lambda api: [client.settle(api) for client in self.clients])
        failures = [text for client in self.clients for text in client.failures]
        if failures:
            raise Unkept("refused without a reason:\n  " + "\n  ".join(failures))
        # On a slow machine no request is done within the window: then kills hit idle daemons.
        scarce = self.acknowledged <= len(self.restarts)
        self.window = min(8.0, self.window * 2) if scarce else max(WINDOW, self.window / 2)

    def calm(self) -> None:
        """Remove all of the load; every address and port of it is free afterwards."""
        self._api(self._calm)

    def _calm(self, api: docker.APIClient) -> None:
        for client in self.clients:
            for slot in client.slots:
                if slot.exists:
                    api.remove_container(slot.name, force=True)
            if client.network.exists:
                api.remove_network(client.network.name)
        self._fill(api)
        api.remove_network(TIGHT)

    @staticmethod
    def _fill(api: docker.APIClient) -> None:
        """Take every address of the tight network and every port of the load at once."""
        ports = {80 + n: FIRST_PORT + n for n in range(CLIENTS * SLOTS)}
        full = api.create_host_config(port_bindings=ports, network_mode=TIGHT)
        plain = api.create_host_config(network_mode=TIGHT)
        made = []
        for n in range(TIGHT_ROOM):
            container = api.create_container(
                "busybox", COMMAND, ports=list(ports) if n == 0 else None,
                host_config=plain if n else full, stop_signal="SIGKILL",
            )  # fmt: skip
            api.start(container)
            made.append(container)
        for container in made:
            api.remove_container(container, force=True)

    def _api(self, act: Callable[[docker.APIClient], object]) -> None:
        api = docker.APIClient(base_url=self.engine.host, version="1.41", timeout=60)
        try:
            act(api)
        finally:
            api.close()
