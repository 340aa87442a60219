"""How many addresses of a network are allocated, as Docker counts them (moby v29, Status.IPAM)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.network.config import NetworkConfig
from netkit.spec import NetworkSpec
from tests.unit.netkit.network.test_controller import IP, Bench, box, on, sub


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    b = Bench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    b.database.close()


def test_reserved_addresses_and_those_of_containers_are_in_use(bench: Bench) -> None:
    record = bench.net.create(NetworkSpec(name="n", subnets=sub("10.1.0.0/24"))).record
    bench.net.open(box("a"), [on(record)], [])
    bench.net.open(box("b"), [on(record, ip="10.1.0.77")], [])
    (use,) = bench.net.address_use(["n"])
    assert (use.network, str(use.subnet)) == (record.id, "10.1.0.0/24")
    assert (use.size, use.allocated, use.free, use.in_use) == (254, 3, 251, 5)
    bench.net.close(box("a").id)
    (use,) = bench.net.address_use(["n"])
    assert (use.allocated, use.free, use.in_use) == (2, 252, 4)


def test_of_a_range_only_what_is_in_it_can_be_allocated(bench: Bench) -> None:
    aux = {"inside": "10.2.0.130", "x": "10.2.0.9"}
    subnets = sub("10.2.0.0/24", ip_range="10.2.0.128/29", aux=aux)
    record = bench.net.create(NetworkSpec(name="n", subnets=subnets)).record
    bench.net.open(box("a"), [on(record)], [])
    (use,) = bench.net.address_use([record.id])
    # Of the range: the gateway, which takes its first address, "inside", and the container.
    assert (use.size, use.allocated, use.free) == (8, 3, 5)
    assert use.in_use == 6  # and the network's, broadcast's, and "x"


@pytest.mark.parametrize(("cidr", "size", "in_use"), [("10.3.0.0/31", 2, 1), ("10.3.0.0/30", 2, 3)])
def test_the_smallest_networks(bench: Bench, cidr: str, size: int, in_use: int) -> None:
    bench.net.create(NetworkSpec(name="n", subnets=sub(cidr)))
    (use,) = bench.net.address_use(["n"])
    assert (use.size, use.allocated, use.in_use) == (size, 1, in_use)


def test_all_networks_are_shown_without_a_name(bench: Bench) -> None:
    bench.net.create(NetworkSpec(name="n", subnets=sub("10.4.0.0/24")))
    names = {bench.net.find(use.network).spec.name for use in bench.net.address_use()}
    assert names == {"bridge", "n"}  # host and none have no addresses
