"""netkitd killed at any point of any call of dockerd's, which repeats the call.

A point is a call on the kernel, the database, ports and names: from there on nothing netkitd does
has an effect.  The next netkitd starts on the same rows and the same kernel.  The repeated call
has the answer that it has without a kill, the calls after it as well, and in the end nothing is
left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.netkit.frontends.libnetwork.dockerd import Calls, id_of
from tests.unit.netkit.network.fault_bench import LOWEST, MOST, FaultBench
from tests.unit.points import Killed

SUBNET, GATEWAY = "10.40.0.0/24", "10.40.0.1"
NET = {"NetworkID": id_of("back")}
ENDPOINT = {**NET, "EndpointID": id_of("web")}
Answer = dict[str, Any]
Step = Callable[["FaultHost"], Answer]


class FaultHost(Calls, FaultBench):
    def __init__(self, path: Path) -> None:
        FaultBench.__init__(self, path)
        self.pool = ""
        self.net.start()
        self.begin()

    def next_netkitd(self) -> None:
        self.again()
        self.clock += 1
        self.begin()
        self.net.restore(self.front.live())
        self.front.recover()


def request_pool(h: FaultHost) -> Answer:
    found = h.ipam("RequestPool", AddressSpace="netkit-local", Pool=SUBNET, Options={}, V6=False)
    h.pool = found["PoolID"]
    return {"Pool": found["Pool"]}


def request_gateway(h: FaultHost) -> Answer:
    kind = {"RequestAddressType": "com.docker.network.gateway"}
    return h.ipam("RequestAddress", PoolID=h.pool, Address="", Options=kind)


def create_network(h: FaultHost) -> Answer:
    data = {"AddressSpace": "netkit-local", "Pool": SUBNET, "Gateway": f"{GATEWAY}/24"}
    return h.driver("CreateNetwork", **NET, Options={}, IPv4Data=[data], IPv6Data=[])


def publish(h: FaultHost) -> Answer:
    return h.publish("back", "web", (80, LOWEST))


def release(address: str) -> Step:
    return lambda h: h.ipam("ReleaseAddress", PoolID=h.pool, Address=address)


def of_endpoint(method: str) -> Step:
    return lambda h: h.driver(method, **ENDPOINT)


STEPS: dict[str, Step] = {
    "RequestPool": request_pool,
    "RequestAddress of the gateway": request_gateway,
    "CreateNetwork": create_network,
    "RequestAddress": lambda h: h.ipam("RequestAddress", PoolID=h.pool, Address="10.40.0.9"),
    "CreateEndpoint": lambda h: h.create("back", "web", "10.40.0.9/24"),
    "Join": lambda h: h.join("back", "web"),
    "ProgramExternalConnectivity": publish,
    "RevokeExternalConnectivity": of_endpoint("RevokeExternalConnectivity"),
    "Leave": of_endpoint("Leave"),
    "DeleteEndpoint": of_endpoint("DeleteEndpoint"),
    "ReleaseAddress": release("10.40.0.9"),
    "ReleaseAddress of the gateway": release(GATEWAY),
    "ReleasePool": lambda h: h.ipam("ReleasePool", PoolID=h.pool),
    "DeleteNetwork": lambda h: h.driver("DeleteNetwork", **NET),
}


@pytest.fixture
def host(memory: Path) -> Iterator[FaultHost]:
    h = FaultHost(memory / "db")
    yield h
    FaultBench.stop(h)


def comparable(answer: Answer) -> Answer:
    """Without a MAC address, which is another one for another endpoint of netkit's."""
    found = dict(answer)
    if "Interface" in found:
        found["Interface"] = sorted(found["Interface"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_a_call_that_is_repeated_after_a_kill_has_its_answer(host: FaultHost, name: str) -> None:
    expected = {step: comparable(act(host)) for step, act in STEPS.items()}
    empty, wrong = host.things(), {}
    for at in range(MOST):
        where = ""
        for step, act in STEPS.items():
            if step == name:
                host.points.begin(cut=at)
                with suppress(Killed):
                    act(host)
                where = host.points.met[at] if host.points.killed else ""
                host.next_netkitd()
            answer = comparable(act(host))
            if answer != expected[step]:
                wrong[f"{where}, {step}"] = answer
        if host.things() != empty or host.docker_rows() or host.reserved():
            wrong[f"{where}, left"] = {"rows": host.docker_rows(), "reserved": host.reserved()}
        if not where:
            break
    assert at > 0, "the call has no point"
    assert wrong == {}
