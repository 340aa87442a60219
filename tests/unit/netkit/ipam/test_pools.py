"""Which subnet, which address: Docker's choices and Docker's messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.driver import Subnet
from netkit.errors import Conflict, Forbidden, InUse, InvalidSpec, NotSupported
from netkit.ipam.allocator import AddressAllocator
from netkit.ipam.pools import (
    DEFAULT_POOLS,
    Pool,
    allocate_subnet,
    assignable_range,
    check_overlap,
    parse_pool,
    parse_subnets,
    requested_prefix_length,
)
from netkit.network.registry import TABLES
from netkit.spec import SubnetSpec
from netkit.store import Database


def test_the_default_pools_are_dockers_31_networks_in_order() -> None:
    taken: list[IPv4Network] = []
    for _ in range(31):
        taken.append(allocate_subnet(DEFAULT_POOLS, taken))
    with pytest.raises(Conflict, match="could not find an available, non-overlapping IPv4 address"):
        allocate_subnet(DEFAULT_POOLS, taken)
    assert [str(n) for n in taken[:5]] == [f"172.{n}.0.0/16" for n in range(17, 22)]
    assert [str(n) for n in taken[14:17]] == [
        "172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("taken", "chosen"),
    [
        ("172.17.0.0/16", "172.18.0.0/16"),
        ("172.17.200.1/32", "172.18.0.0/16"),  # a nameserver
        ("172.16.0.0/12", "192.168.0.0/20"),
        ("10.0.0.0/8", "172.17.0.0/16"),
        ("fd00::/8", "172.17.0.0/16"),
    ],
)
def test_a_pool_that_overlaps_what_the_host_uses_is_skipped(taken: str, chosen: str) -> None:
    assert allocate_subnet(DEFAULT_POOLS, [ip_network(taken)]) == IPv4Network(chosen)


def test_any_subnet_of_a_size_can_be_asked_for() -> None:
    assert requested_prefix_length(SubnetSpec(subnet="0.0.0.0/24")) == 24
    assert requested_prefix_length(SubnetSpec(subnet="10.0.0.0/24")) is None
    pools = (Pool(IPv4Network("10.0.0.0/25"), 25), Pool(IPv4Network("10.1.0.0/16"), 24))
    assert allocate_subnet(pools, [], 26) == IPv4Network("10.0.0.0/26")
    assert allocate_subnet(pools, [], 23) == IPv4Network("10.1.0.0/23")


def test_the_last_of_the_pools_is_as_far_from_the_first_as_can_be() -> None:
    pools = (Pool(IPv4Network("10.0.0.0/24"), 24), Pool(IPv4Network("10.1.0.0/16"), 24))
    assert allocate_subnet(pools, [], last=True) == IPv4Network("10.1.255.0/24")
    assert allocate_subnet(pools, [IPv4Network("10.1.255.128/25")], last=True) == IPv4Network(
        "10.1.254.0/24"
    )
    assert allocate_subnet(pools, [], 25, last=True) == IPv4Network("10.1.255.128/25")
    assert allocate_subnet(pools, [IPv4Network("10.1.0.0/16")], last=True) == IPv4Network(
        "10.0.0.0/24"
    )


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 4095), st.integers(20, 32)), max_size=30),
    st.sampled_from([24, 26, 28]),
    st.booleans(),
)
def test_the_subnet_chosen_is_the_first_that_overlaps_nothing(
    there: list[tuple[int, int]], size: int, last: bool
) -> None:
    base = IPv4Network("10.0.0.0/20")
    taken = [ip_network((int(base[at]), length), strict=False) for at, length in there]
    every = [s for s in base.subnets(new_prefix=size) if not any(s.overlaps(t) for t in taken)]
    pools = (Pool(base, 24),)
    if every:
        assert allocate_subnet(pools, taken, size, last=last) == every[-1 if last else 0]
    else:
        with pytest.raises(Conflict):
            allocate_subnet(pools, taken, size, last=last)


@pytest.mark.parametrize(
    ("base", "size", "message"),
    [
        ("10.0.0.1/8", 24, "has host bits set"),
        ("x", 24, "invalid base pool 'x'"),
        ("10.0.0.0/16", 8, "invalid pool size 8"),
        ("10.0.0.0/16", 31, "invalid pool size 31"),
    ],
)
def test_bad_pools_are_refused(base: str, size: int, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        parse_pool(base, size)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SubnetSpec(subnet="10.0.0.1/24"), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        (SubnetSpec(subnet="10.0.0.0"), "invalid subnet 10.0.0.0: invalid CIDR block notation"),
        (SubnetSpec(subnet="x/24"), "invalid subnet x/24: invalid CIDR block notation"),
        (
            SubnetSpec(subnet="10.0.0.0/24", gateway="10.0.1.1"),
            "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
        ),
        (
            SubnetSpec(subnet="10.0.0.0/24", gateway="10.0.0.255"),
            "it is the network or broadcast address of 10.0.0.0/24",
        ),
        (SubnetSpec(subnet="10.0.0.0/24", gateway="x"), "invalid gateway x: invalid address"),
        (
            SubnetSpec(subnet="10.0.0.0/24", ip_range="10.0.1.0/25"),
            "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range",
        ),
        (SubnetSpec(subnet="10.0.0.0/24", ip_range="10.0.0.0/16"), "doesn't contain ip-range"),
        (
            SubnetSpec(subnet="10.0.0.0/24", ip_range="10.0.0.3/28"),
            "invalid ip-range 10.0.0.3/28: it should be 10.0.0.0/28",
        ),
        (
            SubnetSpec(subnet="10.0.0.0/24", aux={"a": "10.1.0.1"}),
            "invalid auxiliary address 10.1.0.1: parent subnet 10.0.0.0/24 doesn't contain",
        ),
    ],
)
def test_bad_subnets_are_refused_in_dockers_words(spec: SubnetSpec, message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        parse_subnets([spec])
    assert str(error.value).startswith("invalid network config:\n")
    assert message in str(error.value)


def test_all_problems_are_reported_at_once() -> None:
    bad = SubnetSpec(subnet="10.0.0.0/24", gateway="10.1.0.1", ip_range="10.2.0.0/24")
    with pytest.raises(InvalidSpec) as error:
        parse_subnets([bad, SubnetSpec(subnet="10.0.0.0/25")])
    assert len(str(error.value).splitlines()) == 4


def test_ipv6_is_refused_as_not_there_yet() -> None:
    with pytest.raises(NotSupported, match="IPv6 is not supported yet: leave out subnet fd00::/64"):
        parse_subnets([SubnetSpec(subnet="fd00::/64")])
    with pytest.raises(NotSupported):
        parse_pool("fd00::/48", 64)


def test_overlap_names_both_networks() -> None:
    taken = [(ip_network("10.0.0.0/16"), "corp"), (ip_network("fd00::/8"), "six")]
    check_overlap(ip_network("10.1.0.0/16"), taken)
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space") as e:
        check_overlap(ip_network("10.0.3.0/24"), taken)
    assert "10.0.3.0/24 and 10.0.0.0/16 of network corp" in str(e.value)


@pytest.mark.parametrize(
    ("cidr", "ip_range", "first", "last"),
    [
        ("10.0.0.0/24", None, "10.0.0.1", "10.0.0.254"),
        ("10.0.0.0/30", None, "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/31", None, "10.0.0.0", "10.0.0.1"),
        ("10.0.0.7/32", None, "10.0.0.7", "10.0.0.7"),
        ("10.0.0.0/24", "10.0.0.128/25", "10.0.0.128", "10.0.0.254"),
        ("10.0.0.0/24", "10.0.0.16/28", "10.0.0.16", "10.0.0.31"),
        ("10.0.0.0/24", "10.0.0.0/28", "10.0.0.1", "10.0.0.15"),
    ],
)
def test_what_is_given_out(cidr: str, ip_range: str | None, first: str, last: str) -> None:
    subnet = Subnet(cidr=IPv4Network(cidr), ip_range=IPv4Network(ip_range) if ip_range else None)
    assert assignable_range(subnet) == (int(IPv4Address(first)), int(IPv4Address(last)))


NET = Subnet(cidr=IPv4Network("10.0.0.0/28"), gateway=IPv4Address("10.0.0.1"))


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[AddressAllocator]:
    database = Database(tmp_path / "db")
    database.migrate("networks", TABLES)
    for id in ("n", "m"):
        database.execute("INSERT INTO networks VALUES (?, ?, 'ready', '{}')", (id, id))
    yield AddressAllocator(database)
    database.close()


def test_the_lowest_free_address_is_given_and_at_once_again_when_it_comes_back(
    addresses: AddressAllocator,
) -> None:
    addresses.add_pool("n", NET)
    got = [str(addresses.allocate("n", NET, f"c{i}", "net")) for i in range(3)]
    assert got == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    addresses.release("c1")
    addresses.release("c0")
    assert str(addresses.allocate("n", NET, "d", "net")) == "10.0.0.2"
    assert str(addresses.allocate("n", NET, "e", "net")) == "10.0.0.3"
    assert str(addresses.allocate("n", NET, "f", "net")) == "10.0.0.5"


def test_a_full_network_says_so_and_every_address_was_given_once(
    addresses: AddressAllocator,
) -> None:
    addresses.add_pool("n", NET)
    got = {addresses.allocate("n", NET, f"c{i}", "net") for i in range(13)}
    assert len(got) == 13
    with pytest.raises(Conflict, match="no available IPv4 addresses on this network's address"):
        addresses.allocate("n", NET, "late", "net")
    addresses.release("c7")
    addresses.allocate("n", NET, "late", "net")


def test_reserved_addresses_are_jumped_over(addresses: AddressAllocator) -> None:
    subnet = Subnet(
        cidr=NET.cidr,
        gateway=IPv4Address("10.0.0.3"),
        aux=(("printer", IPv4Address("10.0.0.2")), ("DefaultGatewayIPv4", NET.cidr[5])),
    )
    addresses.add_pool("n", subnet)
    got = [str(addresses.allocate("n", subnet, f"c{i}", "net")) for i in range(3)]
    assert got == ["10.0.0.1", "10.0.0.4", "10.0.0.6"]


def test_an_address_belongs_to_one_holder(addresses: AddressAllocator) -> None:
    address = IPv4Address("10.0.0.9")
    addresses.reserve("n", address, "static", "web")
    addresses.reserve("n", address, "lease", "web")  # its own, at the start
    addresses.reserve("m", address, "static", "db")  # another network
    with pytest.raises(InUse, match=r"Address already in use: 10\.0\.0\.9 is held by a container"):
        addresses.reserve("n", address, "lease", "db")
    addresses.release("web")  # the container stops: what is configured stays
    with pytest.raises(InUse):
        addresses.reserve("n", address, "lease", "db")
    addresses.release("web", kind="static")
    addresses.reserve("n", address, "lease", "db")


def test_a_failed_transaction_gives_the_address_back(addresses: AddressAllocator) -> None:
    database = addresses._db
    for _ in range(3):
        with suppress(RuntimeError), database.transaction():
            assert str(addresses.allocate("n", NET, "c", "net")) == "10.0.0.1"
            assert str(addresses.allocate("n", NET, "c", "net")) == "10.0.0.2"
            raise RuntimeError
        assert addresses.count("n") == 0
    got = {addresses.allocate("n", NET, f"d{i}", "net") for i in range(14)}
    assert len(got) == 14


def test_threads_never_get_the_same_address(addresses: AddressAllocator) -> None:
    subnet = Subnet(cidr=IPv4Network("10.0.0.0/22"))
    got: list[object] = []

    def take(who: int) -> None:
        for i in range(50):
            got.append(addresses.allocate("n", subnet, f"{who}-{i}", "net"))

    threads = [Thread(target=take, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(got)) == 200


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40))
def test_the_choice_is_always_the_lowest_free(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]]
) -> None:
    database = Database(tmp_path_factory.mktemp("ipam") / "db")
    database.migrate("networks", TABLES)
    database.execute("INSERT INTO networks VALUES ('n', 'n', 'ready', '{}')")
    addresses, held = AddressAllocator(database), dict[str, int]()
    for who, comes in steps:
        name = f"c{who}"
        if comes and name not in held:
            low = min(n for n in range(1, 15) if n not in held.values())
            got = int(addresses.allocate("n", NET, name, "net")) - int(NET.cidr[0])
            assert got == low
            held[name] = got
        elif not comes:
            addresses.release(name)
            held.pop(name, None)
    assert addresses.count("n") == len(held)
    database.close()


def test_networks_take_their_addresses_along_when_they_go(addresses: AddressAllocator) -> None:
    addresses.add_pool("n", NET)
    assert addresses.pools() == [(NET.cidr, "n")]
    addresses._db.execute("DELETE FROM networks WHERE id='n'")
    assert addresses.pools() == []
    assert addresses.count("n") == 0


def test_six_is_carried_like_four(addresses: AddressAllocator) -> None:
    """The types support IPv6; only requests are refused for now."""
    subnet = Subnet(cidr=IPv6Network("fd00::/64"))
    assert str(addresses.allocate("n", subnet, "c", "net")) == "fd00::1"
