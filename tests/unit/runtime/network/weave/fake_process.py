"""The overlay's process in memory, as netkitd finds it: a Service, and channels to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from netkit.errors import Conflict, KernelError, NotFound
from netkit.overlay import verbs
from netkit.overlay.client import Unanswered
from netkit.overlay.core import Settings


@dataclass
class FakeProcess:
    """`elsewhere`: addresses that another host has; `calls`: what it was asked, without Held."""

    launched: bool = True
    running: bool = True
    settings: Settings | None = None
    fails: str = ""  # why it cannot be started
    silent: int = 0  # calls that it does not answer, from now on; it runs all the same
    kills: int = 0
    starts: int = 0
    without: str = ""  # why it has no range
    elsewhere: set[str] = field(default_factory=set)
    subnets: dict[str, list[str]] = field(default_factory=dict)  # of other hosts' networks
    warnings: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)  # address to ident
    networks: dict[str, verbs.Network] = field(default_factory=dict)
    endpoints: dict[str, verbs.Endpoint] = field(default_factory=dict)
    calls: list[verbs.Known] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    before: Callable[[verbs.Known], object] = lambda verb: None
    refuses: dict[str, str] = field(default_factory=dict)  # endpoints' ids
    channels: list[FakeChannel] = field(default_factory=list)

    # netkit.overlay.service.Service

    def ensure(self) -> bool:
        if self.running or not self.launched:
            return False
        if self.fails:
            raise KernelError(self.fails)
        self.running = True
        self.starts += 1
        return True

    def kill(self) -> int | None:
        if not self.running:
            return None
        self.kills += 1
        self.running, self.silent = False, 0
        return 4711

    def channel(self) -> FakeChannel:
        if not self.running:
            raise NotFound("it does not run")
        made = FakeChannel(self)
        self.channels.append(made)
        return made

    def launch(self, settings: Settings) -> None:
        if self.fails:
            raise KernelError(self.fails)
        self.launched = self.running = True
        self.settings = settings

    def former(self) -> Settings | None:
        return None if self.launched else self.settings

    def stop(self, networks: Sequence[verbs.Network] = ()) -> None:
        if not self.launched:
            raise NotFound("the weave overlay is not running on this host: netkit weave launch")
        self.launched = False
        self.die()

    def reset(self, seconds: float = 0, networks: Sequence[verbs.Network] = ()) -> None:
        self.launched = False
        self.settings = None
        self.die()

    def call(self, verb: verbs.Known, patience: float | None = None) -> Any:
        with self.channel() as channel:
            return channel.call(verb)

    # what a test does

    def die(self) -> None:
        """As by kill -9: what it received is in its rows, so it stays."""
        self.running = False
        for channel in self.channels:
            channel.ring()

    def tell(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        for channel in self.channels:
            channel.ring()

    def of(self, kind: type[verbs.Verb]) -> list[verbs.Known]:
        return [call for call in self.calls if isinstance(call, kind)]

    # answers

    def do(self, verb: verbs.Known) -> Any:
        self.before(verb)
        if isinstance(verb, verbs.Held):
            return [[ident, address] for address, ident in self.held.items()]
        if isinstance(verb, verbs.Warnings):
            return list(self.warnings)
        self.calls.append(verb)
        match verb:
            case verbs.SubnetsOf():
                return self.subnets.get(verb.name, [])
            case verbs.Status() | verbs.Report():
                ipam = {"range": self.settings.range if self.settings else None, "ledger": b"\1"}
                ipam |= {"without": self.without} if self.without else {}
                warnings = [self.without] if "prime" in self.without else []
                overlay = {"id": "ab", "ipam": ipam, "warnings": warnings}
                return {"overlay": overlay, "process": {"workers": []}}
            case verbs.RmPeer():
                return 4096
            case verbs.DnsLookup():
                return [verb.name]
            case verbs.Networks():
                self.networks = {n.id: n for n in verb.networks}
            case verbs.PutNetwork():
                self.networks[verb.network.id] = verb.network
            case verbs.DropNetwork():
                del self.networks[verb.id]
            case verbs.Endpoints():
                self.endpoints = {e.id: e for e in verb.endpoints if e.id not in self.refuses}
                for endpoint in verb.endpoints:
                    self._put(endpoint)
            case verbs.PutEndpoint():
                self._put(verb.endpoint)
            case verbs.DropEndpoint():
                del self.endpoints[verb.id]
            case verbs.Allocate():
                return self._allocate(verb)
            case verbs.Claim():
                return self._claim(verb)
            case verbs.Release():
                if self.held.get(verb.address) == verb.ident:
                    del self.held[verb.address]
        return None

    def _put(self, endpoint: verbs.Endpoint) -> None:
        if endpoint.id in self.refuses:
            raise Conflict(self.refuses[endpoint.id])
        self.endpoints[endpoint.id] = endpoint

    def _allocate(self, verb: verbs.Allocate) -> str:
        self._known(verb.network)
        subnet = IPv4Network(verb.subnet)
        for address, ident in self.held.items():
            if ident == verb.ident and IPv4Address(address) in subnet:
                return f"{address}/{subnet.prefixlen}"
        for address in map(str, subnet.hosts()):
            if address not in self.held and address not in self.elsewhere:
                self.held[address] = verb.ident
                return f"{address}/{subnet.prefixlen}"
        raise AssertionError("the test needs a larger subnet")

    def _claim(self, verb: verbs.Claim) -> str:
        self._known(verb.network)
        address = IPv4Interface(verb.address)
        subnets = (IPv4Network(s) for s in self.networks[verb.network].subnets)
        if not any(address.ip in subnet for subnet in subnets):
            return verb.address  # nobody gives it out
        if str(address.ip) in self.elsewhere:
            raise Conflict(f"{address.ip} is in use at h2")
        if self.held.setdefault(str(address.ip), verb.ident) != verb.ident:
            raise Conflict(f"{address.ip} is in use here")
        return verb.address

    def _known(self, network: str) -> None:
        if network not in self.networks:
            raise NotFound(f"the overlay does not know network {network[:12]}")


class FakeChannel:
    def __init__(self, process: FakeProcess) -> None:
        self._process = process
        self._starts = process.starts
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.closed = False

    def __enter__(self) -> FakeChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._bell

    def ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def call(self, verb: verbs.Known) -> Any:
        self._must_live()
        if self._process.silent:
            self._process.silent -= 1
            self.close()
            raise Unanswered("the weave overlay does not answer: no answer in time")
        return self._process.do(verb)

    def waiting(self) -> list[dict[str, Any]]:
        self._must_live()
        found, self._process.events = self._process.events, []
        return found

    def _must_live(self) -> None:
        if not self._process.running or self._starts != self._process.starts:
            self.close()
            raise KernelError("the weave overlay has ended")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._process.channels.remove(self)
            os.close(self._bell)
