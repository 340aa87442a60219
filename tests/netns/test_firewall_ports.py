"""Ranges, shifted ranges and trees of chains, packet by packet, on both variants of iptables."""

from __future__ import annotations

import random
import socket
import subprocess
from contextlib import ExitStack

import pytest

from netkit.kernel import netns
from netkit.network.access import AccessRule
from netkit.spec import NetworkSpec, PortSpec
from tests.netns.test_firewall import FAR, LAN, Town, far, tcp, town  # noqa: F401  fixtures

pytestmark = pytest.mark.root


def saved(town: Town) -> list[str]:  # noqa: F811
    """Every table, without counters."""
    legacy = town.net._parts.converger._kernel.variant == "legacy"  # type: ignore[attr-defined]
    text = town.lab.run(f"iptables-{'legacy' if legacy else 'nft'}-save")
    return [line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")]


def test_hundreds_of_ports_lead_where_they_should_and_go_without_a_trace(
    town: Town,  # noqa: F811
) -> None:
    town.net.create(NetworkSpec(name="one"))
    town.open("other", "one")
    before = saved(town)
    equal = [tcp(p, p) for p in range(3000, 3100)]
    shifted = [tcp(p, p + 10_000) for p in range(4000, 4300)]
    chance = random.Random(4)
    apart = [
        tcp(inside, host)
        for inside, host in zip(
            chance.sample(range(6000, 9000), 200), chance.sample(range(16_000, 65_000), 200),
            strict=True,
        )
    ]  # fmt: skip
    ports = [*equal, *shifted, *apart]
    web = town.open("web", "one", *ports)
    inside_docker = [r for r in saved(town) if r.startswith("-A DOCKER -")]
    assert len(inside_docker) < 20  # one jump for each table, and what the networks have
    probes = [equal[0], equal[-1], shifted[0], shifted[177], shifted[-1], *apart[::30]]
    for p in probes:
        town.serve("web", p.container_port, web)
        assert town.ask("far", LAN, p.host_first) == f"web {FAR}", p
        assert town.ask("host", LAN, p.host_first).startswith("web "), p
    taken = {p.host_first for p in ports}
    for port in (2999, 3100, 13_999, 14_300, *(p.host_first + 1 for p in apart[::30])):
        if port not in taken:
            assert town.ask("far", LAN, port) == "", port
    town.net.close(_sandbox(town, web))
    assert saved(town) == before


def test_a_shifted_range_does_shift_each_port_to_its_own(town: Town) -> None:  # noqa: F811
    town.net.create(NetworkSpec(name="one"))
    web = town.open("web", "one", *(tcp(p, p + 7000) for p in range(100, 140)))
    served = range(100, 140, 13)
    for p in served:
        town.serve("web", p, web)
    for p in served:
        assert town.ask("far", LAN, p + 7000) == f"web {FAR}"
    for p in (101, 138):  # no server there: it must not reach the neighbouring port
        assert town.ask("far", LAN, p + 7000) == ""


@pytest.mark.parametrize("shift", [7000, 0])
def test_one_source_port_at_two_addresses_of_the_host_reaches_the_same_port_of_a_range(
    town: Town,  # noqa: F811
    shift: int,
) -> None:
    """Both flows have the same tuple inside, so the kernel has to change one: not its target."""
    town.lab.run("ip", "addr", "add", "198.51.100.2/24", "dev", "lan0")
    town.net.create(NetworkSpec(name="one"))
    web = town.open("web", "one", *(tcp(p, p + shift) for p in range(100, 120)))
    for p in range(100, 120):
        town.serve("web", p, web)
    with ExitStack() as held:
        landed = []
        for n, p in enumerate((100, 110, 119)):
            for address in (LAN, "198.51.100.2"):
                s = held.enter_context(socket_from(town.ns("far"), 40_000 + n))
                s.connect((address, p + shift))
                assert s.recv(99).decode() == f"web {FAR}"
                landed.append(p)
        with netns.inside(town.ns("web")):
            seen = subprocess.run(
                ["ss", "-Htan", "state", "established", "state", "fin-wait-1",
                 "state", "fin-wait-2"], capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
        reached = sorted(int(line.split()[3].rpartition(":")[2]) for line in seen.splitlines())
        assert reached == sorted(landed)


def socket_from(ns: str, port: int) -> socket.socket:
    """Its port may be used for several connections at a time."""
    with netns.inside(ns):
        s = socket.socket()
    s.settimeout(5)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((FAR, port))
    return s


@pytest.mark.parametrize("published", [True, False])
def test_a_drop_is_for_its_source_and_port_and_goes_again(
    town: Town,  # noqa: F811
    published: bool,
) -> None:
    town.net.create(NetworkSpec(name="one"))
    web = town.open("web", "one", PortSpec(proto="tcp", container_port=80, host_first=8080,
                                           host_last=8080), tcp(81, 8081))  # fmt: skip
    for p in (80, 81):
        town.serve("web", p, web)
    assert town.ask("far", LAN, 8080) == f"web {FAR}"
    port = 8080 if published else 80
    rule = AccessRule(
        verdict="drop", target=_sandbox(town, web), sources=(f"{FAR}/32",), proto="tcp",
        first=port, last=port, published=published,
    )  # fmt: skip
    made = town.net.add_access_rule(rule)
    assert town.ask("far", LAN, 8080) == ""
    assert town.ask("far", LAN, 8081) == f"web {FAR}"
    town.net.remove_access_rule(made.id)
    assert town.ask("far", LAN, 8080) == f"web {FAR}"


def _sandbox(town: Town, address: str) -> str:  # noqa: F811
    return next(e.sandbox for e in town.net.endpoints() if e.address.startswith(f"{address}/"))
