"""The load of a storm over a lab: clients of every host's engine that record what was promised.

As `storm.Client`, but a client survives kills: it waits for its engine to come back, compares
what it was promised with what is there, and goes on.  A refusal is no broken promise where one of
the programs that a network needs was down, and says so; what was refused must not be there.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import docker
import requests

from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine
from netkit.client.failure import Failure, Refused
from tests.torture.storm import COMMAND, DIED, Client, Slot, Unkept

if TYPE_CHECKING:
    from tests.torture.scenes import Scene


BACK = 90.0  # seconds until a killed daemon must answer again
RULES = "/netkit/firewall/access"
RULED = "99/tcp"  # the port that rules of guests are about
ANYWHERE = "0.0.0.0/0"


class Host:
    """A storm.Client's engine: one of the lab; the killer counts its kills."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.host = name, url
        self.deaths = 0


class Guest(Client):
    def __init__(self, host: Host, number: int, rng: random.Random, scene: Scene) -> None:
        super().__init__(host, number, rng)
        self.home, self._scene = host, scene
        self._excuses = re.compile(scene.excuses)
        self.rules: dict[str, str] = {}  # acknowledged, by container
        self.ruling: set[str] = set()  # containers of which a request for a rule got no answer
        self.refused: list[str] = []
        self.on: dict[str, str] = {}  # the network each of its containers was created on
        self.between = ""  # who joins or leaves a network just now
        self.unsure = False  # the last request for its network got no answer: it may yet be done
        self.doubted = False  # so it was before the request of now

    def work(self, over: threading.Event) -> None:
        try:
            while not over.is_set():
                self._turn(over)
        except Unkept as broken:
            self.failures.append(f"{self.home.name}: {broken}")
        except Exception as error:
            self.failures.append(f"{self.home.name}: the client itself failed: {error!r}")

    def _turn(self, over: threading.Event) -> None:
        """Run requests over one connection until it ends."""
        api = self.connected()
        try:
            self.settle(api)
            while not over.is_set() and self._step(api, over):
                self.acknowledged += 1
        except DIED as error:
            self._cut_off("settle", error)
        finally:
            api.close()

    def connected(self) -> docker.APIClient:
        """Return a connection; raises Unkept if the engine does not come back."""
        deadline = time.monotonic() + BACK
        while True:
            self.seen = self.home.deaths
            api = docker.APIClient(base_url=self.engine.host, version="1.41", timeout=60)
            try:
                api.ping()
            except DIED as error:
                api.close()
                if time.monotonic() > deadline:
                    raise Unkept(f"the engine did not come back in {BACK:g} s: {error}") from None
                time.sleep(0.05)
            else:
                return api

    def _step(self, api: docker.APIClient, over: threading.Event) -> bool:
        slot = self.rng.choice(self.slots)
        act = self.rng.choice(self._choices(slot))
        what = f"{self.home.name}: {act.__name__} {slot.name}"
        self.doubted = self.unsure
        try:
            act(api, slot)
        except docker.errors.APIError as error:
            self._refused(what, str(error), slot)
            self.settle(api)
        except DIED as error:
            self._cut_off(what, error)
            return False
        return True

    def _refused(self, what: str, error: str, slot: Slot) -> None:
        net = self.network.name
        late = (f"name {net} already exists", f"network {net} not found")
        done_late = self.doubted and any(words in error for words in late)
        if not done_late and not self._excuses.search(error):
            raise Unkept(f"{what} was refused without a reason: {error}")
        self.refused.append(f"{what}: {error}")
        if slot.exists is None and not slot.running and what.split()[1] in {"create", "run"}:
            slot.exists = False

    def _cut_off(self, what: str, error: Exception) -> None:
        time.sleep(0.05)  # who kills counts first, and may not have been given the processor
        if self.home.deaths == self.seen:
            raise Unkept(f"{what}: the connection was lost, and no process was killed: {error!r}")

    def _choices(self, slot: Slot) -> list[Callable[[docker.APIClient, Slot], None]]:
        more = [self.come_and_go] if self.rng.random() < 0.3 else []
        more += [self.rule] if self._scene.rules and slot.running else []
        return [*super()._choices(slot), *more]

    def create(self, api: docker.APIClient, slot: Slot) -> None:
        slot.exists, slot.running, slot.pid = None, False, 0
        slot.networks.clear()
        network = self.on[slot.name] = self.rng.choice(self._scene.homes)
        host = api.create_host_config(port_bindings={80: slot.port}, network_mode=network)
        api.create_container(
            "busybox", COMMAND, name=slot.name, ports=[80], host_config=host, stop_signal="SIGKILL"
        )
        slot.exists = True

    def rule(self, api: docker.APIClient, slot: Slot) -> None:
        """Make an access rule on the container, or remove that of before."""
        with closing(Engine(parse_host(self.home.host, None))) as engine:
            try:
                doubted, made = slot.name in self.ruling, self.rules.pop(slot.name, "")
                self.ruling.add(slot.name)
                if made:
                    engine.delete(f"{RULES}/{made}")
                else:
                    body = {"Verdict": "drop", "Sources": [ANYWHERE], "To": slot.name}
                    body |= {"Port": RULED}
                    self.rules[slot.name] = engine.post(RULES, body=body)["Id"]
                self.ruling.discard(slot.name)
            except Refused as error:
                if not made:  # nothing of it stays
                    self.ruling.discard(slot.name)
                if doubted and "is the same already" in str(error):
                    self.rules[slot.name] = str(error).split("access rule ")[1].split()[0]
                    return
                raise docker.errors.APIError(str(error)) from error
            except Failure as error:  # no answer
                raise requests.exceptions.ConnectionError(str(error)) from error

    def remove(self, api: docker.APIClient, slot: Slot) -> None:
        self.rules.pop(slot.name, None)
        self.ruling.discard(slot.name)
        super().remove(api, slot)

    def come_and_go(self, api: docker.APIClient, slot: Slot) -> None:
        """The client's own network: made, and removed while no container is on it.

        Always of one kind: a global one whose making was cut off may yet come, and could not where
        a local one has its name.  It may come between a look and the next request, too.
        """
        net = self.network
        if net.exists:
            if any(net.name in other.networks for other in self.slots):
                return
            self.unsure, net.exists = True, None
            api.remove_network(net.name)
            net.exists = False
        else:
            self.unsure, net.exists = True, None
            driver, scope = self._scene.kinds[self.number % len(self._scene.kinds)]
            api.create_network(net.name, driver=driver, scope=scope)
            net.exists = True
        self.unsure = False

    def join_or_leave(self, api: docker.APIClient, slot: Slot) -> None:
        if self.network.exists:
            self.between = slot.name
            super().join_or_leave(api, slot)
            self.between = ""
        else:
            self.come_and_go(api, slot)

    def settle(self, api: docker.APIClient) -> None:
        if self.unsure:  # a request without an answer may be done when the cluster is back
            self.network.exists = None
        super().settle(api)
        self.between = ""
        self._settle_rules()

    def _settle_rules(self) -> None:
        """Rules that were acknowledged are there."""
        if self.rules:
            try:
                with closing(Engine(parse_host(self.home.host, None))) as engine:
                    there = {rule["Id"] for rule in engine.get(RULES)}
            except Failure as error:
                raise requests.exceptions.ConnectionError(str(error)) from error
            if lost := {name: id for name, id in self.rules.items() if id not in there}:
                raise Unkept(f"rules were acknowledged and are missing: {lost}")

    def _compare(self, slot: Slot, fact: dict[str, Any] | None, api: docker.APIClient) -> None:
        sure = slot.exists and slot.running and slot.name != self.between
        expected = {self.on[slot.name], *slot.networks} if sure else set()
        super()._compare(slot, fact, api)
        if fact is None:
            return
        there = set(api.inspect_container(fact["Id"])["NetworkSettings"]["Networks"])
        if sure and there != expected:
            raise Unkept(f"container {slot.name} is on {sorted(there)}, not {sorted(expected)}")
        slot.networks = there - {self.on[slot.name]}

    def leave(self, api: docker.APIClient) -> None:
        """Remove all of its containers and networks.  Everything has to work by now."""
        self.settle(api)
        for slot in self.slots:
            if slot.exists:
                api.remove_container(slot.name, force=True)
                slot.exists = slot.running = False
        if self.network.exists:
            api.remove_network(self.network.name)
            self.network.exists = False
