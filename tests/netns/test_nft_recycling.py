"""Addresses and ports change hands hundreds of times: nothing stale stays, nothing is missing."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from netkit.driver import Access, Endpoint, Network, PortMapping, Subnet, TrafficPolicy
from netkit.model import Key, Resource, State, Sysctl, state
from netkit.reconcile.converge import Change, converge, ownership
from plugins.firewall.nftables import Nftables
from tests.netns.conftest import Lab

pytestmark = pytest.mark.root
STEPS = 400
ADDRESSES, PORTS = 6, 24  # few of each, so that they are soon allocated again
NET = Network(
    id="a1b2" * 16,
    name="n",
    driver="bridge",
    subnets=(Subnet(cidr=IPv4Network("172.18.0.0/16"), gateway=IPv4Address("172.18.0.1")),),
)
POLICY = TrafficPolicy(link="br0", icc=False)
FIREWALL = Nftables()


@dataclass(frozen=True)
class Box:
    ep: Endpoint
    ports: tuple[PortMapping, ...]
    access: tuple[Access, ...]

    @property
    def state(self) -> State:
        return state(FIREWALL.endpoint(NET, POLICY, self.ep, self.ports, self.access))


def base() -> list[Resource]:
    made = [*FIREWALL.setup("netkit:0:global"), *FIREWALL.network(NET, POLICY)]
    return [r for r in made if not isinstance(r, Sysctl)]


def box(dice: random.Random, address: int, free: set[int]) -> Box:
    """Takes its ports from `free`: some with their number, some not, some on one address."""
    numbers = sorted(dice.sample(sorted(free), dice.randint(0, min(len(free), 10))))
    if numbers and dice.random() < 0.5:  # a run
        numbers = [n for n in range(numbers[0], numbers[0] + len(numbers)) if n in free]
    free -= set(numbers)
    ip, kept = dice.choice(["0.0.0.0", "192.0.2.1", "127.0.0.1"]), dice.random() < 0.6
    ports = tuple(
        PortMapping(
            proto=dice.choice(["tcp", "udp"]) if dice.random() < 0.1 else "tcp",
            container_port=n if kept else dice.randint(1, 99),
            host_ip=ip,
            host_port=n,
        )
        for n in numbers
    )
    access = tuple(
        Access(
            id=f"{dice.getrandbits(48):012x}",
            verdict=dice.choice(["accept", "drop"]),
            sources=(IPv4Network(f"203.0.113.{dice.randint(1, 3)}/32"),),
            priority=dice.randint(0, 3),
            proto=dice.choice(["", "tcp"]),
            link=dice.random() < 0.5,
        )
        for _ in range(dice.choice([0, 0, 1, 3]))
    )
    ep = Endpoint(
        id=f"{dice.getrandbits(256):064x}",
        network=NET.id,
        addresses=(IPv4Interface(f"172.18.0.{address + 2}/16"),),
        mac=None,
        ns="/ns",
        ifname="eth0",
    )
    return Box(ep, ports, access)


def together(boxes: Iterable[Box]) -> dict[Key, Resource]:
    out: dict[Key, Resource] = {}
    for b in boxes:
        out |= b.state
    return out


def test_none_is_stale_and_none_is_missing_however_often_they_change_hands(lab: Lab) -> None:
    dice = random.Random(20)
    host, mine = lab.host(), ownership("0", lab.folder)
    lab.make(host, *base())
    frame = set(state(base()))
    live: dict[int, Box] = {}
    free = set(range(8000, 8000 + PORTS))
    for step in range(STEPS):
        removed = [live.pop(a) for a in dice.sample(sorted(live), dice.randint(0, len(live)))]
        free |= {p.host_port for b in removed for p in b.ports}
        room = sorted(set(range(ADDRESSES)) - live.keys())
        come = {a: box(dice, a, free) for a in dice.sample(room, dice.randint(0, len(room)))}
        live |= come
        change = Change.of(together(come.values()), together(removed))
        if dice.random() < 0.2:  # one after the other, as when they were not waiting together
            converge(Change.of({}, together(removed)), host, mine)
        converge(change, host, mine)
        desired, seen = together(live.values()), host.owned("netkit:")
        assert set(seen) - frame == set(desired), f"step {step}"
        assert {k: r for k, r in seen.items() if k in desired} == desired
