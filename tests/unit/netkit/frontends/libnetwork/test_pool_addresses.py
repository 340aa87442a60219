"""Addresses in a pool of dockerd's: which one is next, which may be requested."""

from __future__ import annotations

import re

import pytest

from netkit.errors import Conflict, InvalidSpec
from netkit.frontends.libnetwork.pool_addresses import gateway_of, lowest_free, parse, with_length
from netkit.frontends.libnetwork.tables import PoolRow
from netkit.spec import SubnetSpec


def pool(cidr: str, range: str = "") -> PoolRow:
    return PoolRow(id="p", cidr=cidr, range=range, network="", space="netkit-local", since=0)


@pytest.mark.parametrize(
    ("row", "taken", "free"),
    [
        (pool("10.1.0.0/29"), (), "10.1.0.1"),
        (pool("10.1.0.0/29"), ("10.1.0.1", "10.1.0.3"), "10.1.0.2"),
        (pool("10.1.0.0/16", "10.1.5.0/24"), (), "10.1.5.0"),
    ],
)
def test_the_lowest_address_that_can_be_assigned_is_next(
    row: PoolRow, taken: tuple[str, ...], free: str
) -> None:
    assert lowest_free(row, taken) == free


def test_a_pool_without_a_free_address_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        lowest_free(pool("10.1.0.0/30"), {"10.1.0.1", "10.1.0.2"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.2.0.1", "address 10.2.0.1 is not in pool 10.1.0.0/16"),
        ("10.1.0", "invalid address '10.1.0'"),
        ("fd00::1", "address fd00::1 is not in pool 10.1.0.0/16"),
    ],
)
def test_a_requested_address_has_to_be_in_the_pool(text: str, why: str) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(why)):
        parse(pool("10.1.0.0/16"), text)


def test_addresses_are_shown_with_the_length_of_the_pool() -> None:
    row = pool("10.1.0.0/16")
    assert parse(row, "") == ""
    assert with_length(parse(row, "10.1.2.3"), row) == "10.1.2.3/16"


def test_a_network_without_a_gateway_has_an_address_that_dockerd_takes_for_one() -> None:
    assert gateway_of(SubnetSpec(subnet="10.1.0.0/16", gateway="10.1.9.9")) == "10.1.9.9"
    assert gateway_of(SubnetSpec(subnet="10.1.0.0/16")) == "10.1.0.1"
